//! Page tokens and sync tokens: opaque, signed, and good for one listing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::dice::Dice;
use crate::fernet::hmac_sha256;

/// What a fault does to one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum PageTweak {
    #[default]
    None,
    Loop,
    Duplicate,
    Empty,
    Short,
}

/// How pages come out when no fault meddles: Google may answer short or empty pages at any time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PageShape {
    /// Share of pages that hold fewer items than asked for.
    pub short: f64,
    /// Share of pages that hold none, with more to come.
    pub empty: f64,
}

/// A place in a listing. Page tokens carry it, signed, so that a made-up or altered one is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Digest of the calendar and of every other parameter.
    pub(crate) query: String,
    /// Position after which the page starts.
    pub(crate) after: u64,
    /// Change up to which the listing tells.
    pub(crate) until: u64,
    /// Number of the page: tokens of empty pages differ too.
    pub(crate) page: u64,
}

/// What signs tokens, and what is drawn for page shapes.
#[derive(Debug, Clone)]
pub(crate) struct Paging {
    pub(crate) secret: [u8; 32],
    pub(crate) shape: PageShape,
    pub(crate) dice: Dice,
}

impl Paging {
    fn seal(&self, kind: char, payload: &str) -> String {
        let mac = hmac_sha256(&self.secret, format!("{kind}{payload}").as_bytes());
        let mut bytes = mac[..9].to_vec();
        bytes.extend(payload.as_bytes());
        format!("C{kind}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    fn open(&self, kind: char, token: &str) -> Option<String> {
        let text = token.strip_prefix('C')?.strip_prefix(kind)?;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(text)
            .ok()?;
        let (mac, payload) = bytes.split_at_checked(9)?;
        let payload = String::from_utf8(payload.to_vec()).ok()?;
        let expected = hmac_sha256(&self.secret, format!("{kind}{payload}").as_bytes());
        (expected[..9] == *mac).then_some(payload)
    }

    pub(crate) fn page_token(&self, cursor: &Cursor) -> String {
        let Cursor {
            query,
            after,
            until,
            page,
        } = cursor;
        self.seal('p', &format!("{query} {after} {until} {page}"))
    }

    pub(crate) fn cursor(&self, token: &str) -> Option<Cursor> {
        let payload = self.open('p', token)?;
        let mut parts = payload.split(' ');
        Some(Cursor {
            query: parts.next()?.to_owned(),
            after: parts.next()?.parse().ok()?,
            until: parts.next()?.parse().ok()?,
            page: parts.next()?.parse().ok()?,
        })
    }

    /// A token that stands for every change of a calendar up to one.
    pub(crate) fn sync_token(&self, calendar: &str, change: u64) -> String {
        self.seal('s', &format!("{} {change}", digest(calendar.as_bytes())))
    }

    pub(crate) fn synced(&self, calendar: &str, token: &str) -> Option<u64> {
        let payload = self.open('s', token)?;
        let (name, change) = payload.split_once(' ')?;
        (name == digest(calendar.as_bytes()))
            .then(|| change.parse().ok())
            .flatten()
    }

    /// How many items the next page may hold.
    pub(crate) fn size(&mut self, wanted: usize, tweak: PageTweak) -> usize {
        match tweak {
            PageTweak::Empty => 0,
            PageTweak::Short => 1,
            _ if self.shape.empty > 0.0 && self.dice.chance(self.shape.empty) => 0,
            _ if self.shape.short > 0.0 && self.dice.chance(self.shape.short) => {
                1 + self.dice.index(wanted)
            }
            _ => wanted,
        }
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..8]
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
