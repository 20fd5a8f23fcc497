//! A page of events, taken apart without reading the events.
//!
//! Every item is kept as the bytes it came in: an event with a lone surrogate in its title, an odd type or a name twice loses neither itself
//! nor its page. Only the few fields that listing needs are looked at, one by one, and each may be missing.

use std::fmt;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;

/// One event, byte for byte, and what could be read of it.
#[derive(Clone, PartialEq, Eq)]
pub struct RawItem {
    /// The event's JSON exactly as it stood in the page.
    pub bytes: Bytes,
    /// Its id, if it can be read.
    pub id: Option<String>,
    /// Its etag, if it can be read.
    pub etag: Option<String>,
    /// `confirmed`, `tentative`, `cancelled`, if it can be read.
    pub status: Option<String>,
}

impl fmt::Debug for RawItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawItem({} bytes)", self.bytes.len())
    }
}

impl RawItem {
    /// Reads what can be read of `bytes`, which stay as they are.
    pub fn new(bytes: Bytes) -> Self {
        let fields = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| serde_json::from_str::<Fields<'_>>(text).ok())
            .unwrap_or_default();
        let (id, etag, status) = (text(fields.id), text(fields.etag), text(fields.status));
        Self {
            bytes,
            id,
            etag,
            status,
        }
    }
}

/// One answer of `events.list`.
#[derive(Clone)]
pub struct Page {
    /// The events, in the order they came; one that moved while listing can be in two pages.
    pub items: Vec<RawItem>,
    /// More to come, even where this page is short or empty.
    pub next_page_token: Option<String>,
    /// On the last page: from here changes can be listed.
    pub next_sync_token: Option<String>,
    /// The calendar's title: for `primary`, by default, the account's address.
    pub summary: Option<String>,
    /// The user's right on this calendar (`owner`, `writer`, `reader`).
    pub access_role: Option<String>,
    /// The service's clock.
    pub date: Option<DateTime<Utc>>,
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Page({} items)", self.items.len())
    }
}

#[derive(Deserialize, Default)]
struct Fields<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    etag: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePage<'a> {
    #[serde(borrow, default)]
    items: Vec<&'a RawValue>,
    #[serde(borrow)]
    summary: Option<&'a RawValue>,
    #[serde(borrow)]
    access_role: Option<&'a RawValue>,
    next_page_token: Option<String>,
    next_sync_token: Option<String>,
}

fn text(value: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(value?.get()).ok()
}

/// Takes an answer apart; the error says what is wrong in our words, since the parser's could quote an event.
pub(super) fn parse(body: &[u8], date: Option<DateTime<Utc>>) -> Result<Page, &'static str> {
    let body = std::str::from_utf8(body).map_err(|_| "the page is not UTF-8")?;
    let wire: WirePage<'_> =
        serde_json::from_str(body).map_err(|_| "the page is not a list of events")?;
    match (&wire.next_page_token, &wire.next_sync_token) {
        (Some(_), Some(_)) => return Err("the page has both a next page and a sync token"),
        (None, None) => return Err("the page has neither a next page nor a sync token"),
        _ => {}
    }
    let item = |raw: &&RawValue| RawItem::new(Bytes::copy_from_slice(raw.get().as_bytes()));
    Ok(Page {
        items: wire.items.iter().map(item).collect(),
        summary: text(wire.summary),
        access_role: text(wire.access_role),
        next_page_token: wire.next_page_token,
        next_sync_token: wire.next_sync_token,
        date,
    })
}

/// What can be read of a single event's answer.
pub(super) fn parse_event(body: &Bytes) -> Result<RawItem, &'static str> {
    let whole = std::str::from_utf8(body)
        .ok()
        .and_then(|text| serde_json::from_str::<&RawValue>(text).ok())
        .is_some_and(|value| value.get().starts_with('{'));
    if whole {
        Ok(RawItem::new(body.clone()))
    } else {
        Err("the answer is not an event")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_event_loses_neither_itself_nor_the_page() {
        let odd = [
            r#"{"id":"good","etag":"\"1\"","status":"confirmed","summary":"é 😀"}"#,
            r#"{"id":"surrogate","etag":"\"2\"","summary":"\ud800"}"#,
            r#"{ "id" : 7, "etag":"\"3\"" }"#,
            r#"{"id":"twice","id":"again"}"#,
            r#"{"id":"\udead"}"#,
            "null",
            r#"["not an event", 1e999]"#,
        ];
        let body = format!(
            r#"{{"kind":"calendar#events","summary":"\ud83d","items":[{}],"nextSyncToken":"s"}}"#,
            odd.join(" , ")
        );
        let page = parse(body.as_bytes(), None).expect("a page");
        let bytes: Vec<_> = page.items.iter().map(|item| item.bytes.as_ref()).collect();
        assert_eq!(bytes, odd.map(str::as_bytes));
        let ids: Vec<_> = page.items.iter().map(|item| item.id.as_deref()).collect();
        assert_eq!(
            ids,
            [
                Some("good"),
                Some("surrogate"),
                None,
                None,
                None,
                None,
                None
            ]
        );
        assert_eq!(page.items[2].etag.as_deref(), Some("\"3\""));
        assert_eq!(page.summary, None);
    }

    #[test]
    fn an_answer_that_does_not_say_how_it_goes_on_is_no_page() {
        for body in [
            "{}",
            r#"{"items":[]}"#,
            r#"{"items":[],"nextPageToken":"p","nextSyncToken":"s"}"#,
            r#"{"items":{},"nextSyncToken":"s"}"#,
            r#"{"items":[{}],"nextSyncToken":"s""#,
            "<html></html>",
        ] {
            assert!(parse(body.as_bytes(), None).is_err(), "{body}");
        }
        assert!(parse(b"{\"items\":[],\"nextSyncToken\":\"\xff\"}", None).is_err());
        assert!(
            parse(br#"{"nextPageToken":"p"}"#, None)
                .expect("an empty page")
                .items
                .is_empty()
        );
    }

    proptest::proptest! {
        #[test]
        fn any_items_come_back_byte_for_byte(
            items in proptest::collection::vec(
                "\\{ ?\"(id|summary)\" ?: ?(\"(\\\\u[0-9a-f]{4}|[a-zé😀<>&])*\"|-?[1-9][0-9]{0,30}|null|\\[true, \\{\\}\\]) ?\\}",
                0..6,
            ),
        ) {
            let body = format!(r#"{{"items":[{}],"nextSyncToken":"s"}}"#, items.join(","));
            let page = parse(body.as_bytes(), None).expect("a page");
            let bytes: Vec<_> = page.items.iter().map(|item| item.bytes.as_ref()).collect();
            proptest::prop_assert_eq!(bytes, items.iter().map(String::as_bytes).collect::<Vec<_>>());
        }

        #[test]
        fn no_body_is_too_odd_to_be_refused(body: Vec<u8>) {
            proptest::prop_assert!(parse(&body, None).is_err());
        }
    }
}
