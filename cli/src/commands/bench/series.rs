//! What was measured, and how it is told.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use sqlx::{PgConnection, Row as _};

use super::seconds;
use crate::args::Bench;
use crate::exit::{Failure, environment};
use crate::output;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Append1,
    Append32,
    Append256,
    Bulk,
    Verify,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Append1 => "append_1",
            Self::Append32 => "append_32",
            Self::Append256 => "append_256",
            Self::Bulk => "bulk",
            Self::Verify => "verify",
        }
    }

    fn beside(self) -> &'static str {
        match self {
            Self::Append1 | Self::Append32 | Self::Append256 => "single INSERTs",
            Self::Bulk => "INSERTs of 1,024 rows from arrays",
            Self::Verify => "COPY of both tables",
        }
    }

    /// Ours over raw: of the rates, so that more is better; for verify of the times, so that less is.
    fn ratio(self, ours: Duration, raw: Duration) -> f64 {
        match self {
            Self::Verify => seconds(ours) / seconds(raw),
            _ => seconds(raw) / seconds(ours),
        }
    }
}

/// The rounds of one comparison.
pub(super) struct Series {
    kind: Kind,
    /// Entries of one round.
    count: usize,
    /// Clients on the raw side.
    clients: usize,
    rounds: Vec<(Duration, Duration)>,
}

impl Series {
    pub(super) fn new(kind: Kind, count: usize, clients: usize) -> Self {
        Self {
            kind,
            count,
            clients,
            rounds: Vec::new(),
        }
    }

    /// Adds a round: the time of ours, and of raw.
    pub(super) fn add(&mut self, round: (Duration, Duration)) {
        self.rounds.push(round);
    }

    fn told(&self) -> Told {
        let rate = |time: Duration| {
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            let count = self.count as f64;
            round_to(count / seconds(time), 0)
        };
        let ratios = self
            .rounds
            .iter()
            .map(|(ours, raw)| self.kind.ratio(*ours, *raw));
        let ratios = sorted(ratios);
        Told {
            ratio: round_to(median(&ratios), 3),
            ratio_min: round_to(ratios.first().copied().unwrap_or_default(), 3),
            ratio_max: round_to(ratios.last().copied().unwrap_or_default(), 3),
            ours_per_second: median(&sorted(self.rounds.iter().map(|(ours, _)| rate(*ours)))),
            raw_per_second: median(&sorted(self.rounds.iter().map(|(_, raw)| rate(*raw)))),
            entries: self.count,
            raw_clients: self.clients,
            beside: self.kind.beside(),
        }
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Of sorted values; of none, zero.
fn median(sorted: &[f64]) -> f64 {
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    if sorted.len() % 2 == 1 || sorted.is_empty() {
        upper
    } else {
        f64::midpoint(sorted[sorted.len() / 2 - 1], upper)
    }
}

fn round_to(value: f64, digits: i32) -> f64 {
    let unit = 10_f64.powi(digits);
    (value * unit).round() / unit
}

/// One comparison as it is told.
#[derive(Debug, Serialize)]
struct Told {
    /// Median of the rounds' ratios.
    ratio: f64,
    ratio_min: f64,
    ratio_max: f64,
    ours_per_second: f64,
    raw_per_second: f64,
    /// Entries of one round.
    entries: usize,
    raw_clients: usize,
    beside: &'static str,
}

/// Where and how it was measured.
#[derive(Debug, Serialize)]
pub(super) struct Setting {
    postgresql: String,
    fsync: String,
    synchronous_commit: String,
    full_page_writes: String,
    cores: usize,
    /// Whether the program was built with optimisation of its own code.
    build: &'static str,
    rounds: u32,
    payload_bytes: u32,
}

impl Setting {
    pub(super) async fn of(admin: &mut PgConnection, args: &Bench) -> Result<Self, Failure> {
        let asked = sqlx::query(
            "select current_setting('server_version') as version, current_setting('fsync') as fsync, \
                    current_setting('synchronous_commit') as commit, \
                    current_setting('full_page_writes') as pages",
        )
        .fetch_one(admin)
        .await;
        let read = |row: sqlx::postgres::PgRow| -> Result<Self, sqlx::Error> {
            Ok(Self {
                postgresql: row.try_get("version")?,
                fsync: row.try_get("fsync")?,
                synchronous_commit: row.try_get("commit")?,
                full_page_writes: row.try_get("pages")?,
                cores: std::thread::available_parallelism().map_or(1, usize::from),
                build: if cfg!(debug_assertions) {
                    "development"
                } else {
                    "release"
                },
                rounds: args.rounds,
                payload_bytes: args.payload,
            })
        };
        asked
            .and_then(read)
            .map_err(environment("ask for the server's settings"))
    }
}

/// All that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    ratios: BTreeMap<&'static str, f64>,
    measured: BTreeMap<&'static str, Told>,
    setting: Setting,
    /// Most memory that this program held, server and raw clients' server processes not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_peak_bytes: Option<u64>,
}

impl Answer {
    pub(super) fn new(series: &[Series], setting: Setting) -> Self {
        let measured: BTreeMap<_, _> = series
            .iter()
            .map(|series| (series.kind.name(), series.told()))
            .collect();
        Self {
            ratios: measured
                .iter()
                .map(|(name, told)| (*name, told.ratio))
                .collect(),
            measured,
            setting,
            memory_peak_bytes: memory_peak(),
        }
    }

    pub(super) fn print(&self) -> Result<(), Failure> {
        output::line(format_args!(
            "{:<11} {:>9} {:>9}  {:>6} {:>15}  beside",
            "", "ours/s", "raw/s", "ratio", "(min to max)"
        ))?;
        for kind in [
            Kind::Append1,
            Kind::Append32,
            Kind::Append256,
            Kind::Bulk,
            Kind::Verify,
        ] {
            let Some(told) = self.measured.get(kind.name()) else {
                continue;
            };
            let spread = format!("({:.2} to {:.2})", told.ratio_min, told.ratio_max);
            output::line(format_args!(
                "{:<11} {:>9} {:>9}  {:>6.2} {spread:>15}  {}, {} clients, {} entries a round",
                kind.name(),
                told.ours_per_second,
                told.raw_per_second,
                told.ratio,
                told.beside,
                told.raw_clients,
                told.entries,
            ))?;
        }
        let Setting {
            postgresql,
            fsync,
            synchronous_commit,
            full_page_writes,
            cores,
            build,
            rounds,
            payload_bytes,
        } = &self.setting;
        output::line(
            "ratio: ours / raw, of rates (more is better); of times for verify (less is better)",
        )?;
        output::line(format_args!(
            "PostgreSQL {postgresql}, fsync {fsync}, synchronous_commit {synchronous_commit}, \
             full_page_writes {full_page_writes}, {cores} cores, {build} build, \
             payloads of {payload_bytes} bytes, median of {rounds} rounds"
        ))?;
        if let Some(bytes) = self.memory_peak_bytes {
            output::line(format_args!(
                "memory of this program: at most {} MiB",
                bytes >> 20
            ))?;
        }
        Ok(())
    }
}

/// Linux only (proc(5), `VmHWM`).
fn memory_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_rates_and_for_verify_of_times() {
        let (fast, slow) = (Duration::from_secs(1), Duration::from_secs(4));
        assert!((Kind::Append32.ratio(fast, slow) - 4.0).abs() < 1e-9);
        assert!((Kind::Verify.ratio(fast, slow) - 0.25).abs() < 1e-9);
    }

    #[test]
    fn one_disturbed_round_does_not_move_the_ratio() {
        let mut series = Series::new(Kind::Append1, 10, 1);
        for (ours, raw) in [(2, 2), (4, 2), (2, 90)] {
            series.add((Duration::from_secs(ours), Duration::from_secs(raw)));
        }
        let told = series.told();
        assert_eq!(
            (told.ratio, told.ratio_min, told.ratio_max),
            (1.0, 0.5, 45.0)
        );
        assert!((told.ours_per_second - 5.0).abs() < 1e-9);
        assert!((median(&[1.0, 2.0]) - 1.5).abs() < 1e-9);
        assert!(median(&[]).abs() < 1e-9);
    }
}
