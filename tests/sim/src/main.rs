//! `ledger-sim`: a seeded world, served until it is told to stop, to try the program by hand.
//!
//! Standard output is a script for `eval`: the variables that point the program here. Everything else goes to standard error.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use clap::Parser;
use ledger_sim::calendar::PageShape;
use ledger_sim::{Call, Fault, FaultKind, Occurrence, SimConfig, SimServers, WorldSpec};
use tokio::signal::unix::{SignalKind, signal};

/// Serve a made-up v1 world: Supabase, Google's token endpoint and Google Calendar on loopback.
#[derive(Debug, Parser)]
#[command(name = "ledger-sim", version)]
struct Args {
    /// Users of v1; the first 20 are one of each kind
    #[arg(long, default_value_t = 30)]
    users: usize,
    /// Events per connected user
    #[arg(long, default_value_t = 20)]
    events: usize,
    /// The same seed makes the same world
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Break something now and then: lost replies, 429, 503, short and empty pages
    #[arg(long)]
    faults: bool,
    /// When v2 took over (RFC 3339); 26 hours ago if left out
    #[arg(long)]
    go_live: Option<DateTime<Utc>>,
    /// How long each request takes, in milliseconds
    #[arg(long, default_value_t = 0)]
    latency: u64,
    /// Where v2's exports are written; a folder of the system's temporary one if left out
    #[arg(long)]
    exports: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to report to if standard error is closed too.
            let _ = writeln!(io::stderr(), "error: serve the simulated services: {error}");
            ExitCode::from(4)
        }
    }
}

async fn run(args: &Args) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let now = DateTime::<Utc>::from(SystemTime::now());
    let spec = WorldSpec::seeded(args.seed)
        .users(args.users)
        .events_per_user(args.events)
        .as_of(now);
    let go_live = args.go_live.unwrap_or(spec.go_live);
    let world = spec.at(go_live, now).generate();
    let pages = if args.faults {
        PageShape {
            short: 0.2,
            empty: 0.1,
        }
    } else {
        PageShape::default()
    };
    let config = SimConfig {
        latency: Duration::from_millis(args.latency),
        pages,
        ..SimConfig::default()
    };
    let sim = SimServers::start_with(world, config).await?;
    if args.faults {
        for fault in hostile(args.seed) {
            sim.add_fault(fault);
        }
    }
    let folder = args
        .exports
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("ledger-sim-{}", std::process::id())));
    let exports = sim.write_v2_exports(&folder)?;

    let mut out = io::stdout();
    for (name, value) in sim.env() {
        writeln!(out, "export {name}={}", quote(&value))?;
    }
    writeln!(
        out,
        "export V2_EXPORT={}",
        quote(&exports.production_zip.display().to_string())
    )?;
    writeln!(
        out,
        "export V2_DEV_EXPORT={}",
        quote(&exports.dev_zip.display().to_string())
    )?;
    writeln!(out, "export GO_LIVE={}", quote(&go_live.to_rfc3339()))?;
    writeln!(out, "export SIM_CONTROL_URL={}", quote(&sim.control_url()))?;
    out.flush()?;
    let mut log = io::stderr();
    writeln!(
        log,
        "{} users, {} items, until SIGTERM or Ctrl-C:",
        args.users,
        sim.truth().len()
    )?;
    for (class, count) in sim.world().census() {
        writeln!(log, "  {count:>6} {class:?}")?;
    }
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    sim.stop().await;
    Ok(())
}

/// Faults that a careful client survives.
fn hostile(seed: u64) -> Vec<Fault> {
    let now_and_then = |p, lane: u64| Occurrence::Probability {
        p,
        seed: seed ^ lane,
    };
    vec![
        Fault::once(Call::EventsDelete, FaultKind::LoseReply).when(now_and_then(0.05, 1)),
        Fault::once(Call::EventsDelete, FaultKind::status(503)).when(now_and_then(0.05, 2)),
        Fault::once(Call::EventsDelete, FaultKind::retry_after(429, "1"))
            .when(now_and_then(0.03, 3)),
        Fault::once(Call::EventsGet, FaultKind::LoseRequest).when(now_and_then(0.03, 4)),
        Fault::once(Call::EventsList, FaultKind::TruncateBody { keep: 100 })
            .when(now_and_then(0.05, 5)),
        Fault::once(Call::Token, FaultKind::status(500)).when(now_and_then(0.05, 6)),
    ]
}

/// A value as one word of a shell.
fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}
