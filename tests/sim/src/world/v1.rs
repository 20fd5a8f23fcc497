//! How v1 wrote: its deadline kinds, titles, descriptions and the shapes of `calendar_event_ids`.

use serde_json::{Map, Value};

use crate::supabase::{Cell, ColumnType};

/// The eight deadlines that both systems put into calendars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Deadline {
    /// Prevailing wage determination expires.
    PwdExpiration,
    /// ETA 9089 is to be filed.
    Eta9089Filing,
    /// The filing window opens; shares v2's slot with [`Deadline::Eta9089Filing`].
    FilingWindowOpens,
    /// ETA 9089 certification expires.
    Eta9089Expiration,
    /// Recruitment results expire.
    RecruitmentExpires,
    /// I-140 is to be filed.
    I140Deadline,
    /// Answer to a request for information.
    RfiDue,
    /// Answer to a request for evidence.
    RfeDue,
}

impl Deadline {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::PwdExpiration,
        Self::Eta9089Filing,
        Self::FilingWindowOpens,
        Self::Eta9089Expiration,
        Self::RecruitmentExpires,
        Self::I140Deadline,
        Self::RfiDue,
        Self::RfeDue,
    ];

    /// What titles start with, the same in both systems.
    pub const fn label(self) -> &'static str {
        match self {
            Self::PwdExpiration => "PWD Expiration",
            Self::Eta9089Filing => "ETA 9089 Filing",
            Self::FilingWindowOpens => "Ready to File",
            Self::Eta9089Expiration => "ETA 9089 Expiration",
            Self::RecruitmentExpires => "Recruitment Expires",
            Self::I140Deadline => "I-140 Deadline",
            Self::RfiDue => "RFI Response Due",
            Self::RfeDue => "RFE Response Due",
        }
    }

    /// Key in v1's `calendar_event_ids`.
    pub const fn v1_key(self) -> &'static str {
        match self {
            Self::PwdExpiration => "pwd_expiration",
            Self::Eta9089Filing => "eta9089_filing",
            Self::FilingWindowOpens => "eta9089_filing_window_opens",
            Self::Eta9089Expiration => "eta9089_expiration",
            Self::RecruitmentExpires => "recruitment_expiration",
            Self::I140Deadline => "i140_filing_deadline",
            Self::RfiDue => "rfi_due",
            Self::RfeDue => "rfe_due",
        }
    }

    /// Slot in v2's `calendarEventIds`; two deadlines share one.
    pub const fn v2_slot(self) -> &'static str {
        match self {
            Self::PwdExpiration => "pwd_expiration",
            Self::Eta9089Filing | Self::FilingWindowOpens => "eta9089_filing_window",
            Self::Eta9089Expiration => "eta9089_expiration",
            Self::RecruitmentExpires => "recruitment_end",
            Self::I140Deadline => "i140_filing_deadline",
            Self::RfiDue => "rfi_due",
            Self::RfeDue => "rfe_due",
        }
    }

    /// The title of an event.
    pub fn title(self, employer: &str) -> String {
        format!("{}: {employer}", self.label())
    }
}

/// v1's description: several lines, the case's id, and the product's name.
pub fn v1_description(
    deadline: Deadline,
    employer: &str,
    beneficiary: &str,
    case_id: &str,
    with_link: bool,
) -> String {
    let link = if with_link {
        format!("\nView case: https://permtracker.app/cases/{case_id}")
    } else {
        String::new()
    };
    format!(
        "{label} for {employer}\n\nEmployer: {employer}\nBeneficiary: {beneficiary}\nCase: {case_id}{link}\n\nCreated by PERM Tracker",
        label = deadline.label(),
    )
}

/// A description that names the case only by its link, as some of v1's did.
pub fn v1_link_description(deadline: Deadline, employer: &str, case_id: &str) -> String {
    format!(
        "{label} for {employer}\n\nDetails: https://permtracker.app/cases/{case_id}\n\nPERM Tracker",
        label = deadline.label(),
    )
}

/// The shapes in which `calendar_event_ids` is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdsShape {
    Object,
    Array,
    /// A JSON string that holds JSON.
    Text,
}

/// The value of `calendar_event_ids` for recorded ids by key.
pub(crate) fn event_ids(shape: IdsShape, ids: &[(String, String)]) -> Cell {
    if ids.is_empty() {
        return match shape {
            IdsShape::Object => Cell::Json(Value::Object(Map::new())),
            IdsShape::Array | IdsShape::Text => Cell::Null,
        };
    }
    let object = || -> Value {
        Value::Object(
            ids.iter()
                .map(|(key, id)| (key.clone(), id.as_str().into()))
                .collect(),
        )
    };
    match shape {
        IdsShape::Object => Cell::Json(object()),
        IdsShape::Array => Cell::Json(ids.iter().map(|(_, id)| id.as_str()).collect()),
        IdsShape::Text => Cell::Json(Value::String(object().to_string())),
    }
}

/// Columns of v1's user table.
pub(crate) const USER_COLUMNS: &[(&str, ColumnType)] = &[
    ("id", ColumnType::Uuid),
    ("auth_user_id", ColumnType::Uuid),
    ("email", ColumnType::Text),
    ("full_name", ColumnType::Text),
    ("user_type", ColumnType::Text),
    ("firm_id", ColumnType::Uuid),
    ("firm_name", ColumnType::Text),
    ("calendar_connected", ColumnType::Bool),
    ("gmail_connected", ColumnType::Bool),
    ("google_refresh_token", ColumnType::Text),
    ("google_access_token", ColumnType::Text),
    ("google_token_expiry", ColumnType::Instant),
    ("google_scopes", ColumnType::Json),
    ("google_email", ColumnType::Text),
    ("calendar_sync_enabled", ColumnType::Bool),
    ("calendar_last_synced_at", ColumnType::Local),
    ("privacy_mode_enabled", ColumnType::Bool),
    ("created_at", ColumnType::Instant),
    ("updated_at", ColumnType::Instant),
    ("last_login", ColumnType::Instant),
    ("deleted_at", ColumnType::Instant),
];

/// Columns of v1's `cases`.
pub(crate) const CASE_COLUMNS: &[(&str, ColumnType)] = &[
    ("id", ColumnType::Uuid),
    ("user_id", ColumnType::Uuid),
    ("case_number", ColumnType::Text),
    ("internal_case_number", ColumnType::Text),
    ("employer_name", ColumnType::Text),
    ("beneficiary_identifier", ColumnType::Text),
    ("position_title", ColumnType::Text),
    ("case_status", ColumnType::Text),
    ("progress_status", ColumnType::Text),
    ("pwd_wage_amount", ColumnType::Numeric),
    ("pwd_expiration_date", ColumnType::Date),
    ("eta9089_filing_date", ColumnType::Date),
    ("eta9089_expiration_date", ColumnType::Date),
    ("recruitment_end_date", ColumnType::Date),
    ("i140_filing_date", ColumnType::Date),
    ("rfi_list", ColumnType::Json),
    ("rfe_list", ColumnType::Json),
    ("notes", ColumnType::Text),
    ("tags", ColumnType::Json),
    ("documents", ColumnType::Json),
    ("calendar_event_ids", ColumnType::Json),
    ("calendar_sync_enabled", ColumnType::Bool),
    ("calendar_last_synced_at", ColumnType::Local),
    ("created_at", ColumnType::Instant),
    ("updated_at", ColumnType::Instant),
    ("deleted_at", ColumnType::Instant),
];
