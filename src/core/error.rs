//! Errors: one table of codes, one error type.
//!
//! The table is the protocol's registry (protocol.md, appendix A) with the client's own codes. What follows from a code
//! (class, recovery) is derived here and nowhere else; the server and the page use what this module says.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Deref, DerefMut};

use super::json::{ObjectWriter, Value};

/// What area a code belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the registry's own words, section A of the protocol")]
pub enum Category {
    Auth,
    Permission,
    Capability,
    Claim,
    Conflict,
    Validation,
    NotFound,
    Tenant,
    Schema,
    Bootstrap,
    Transport,
    RateLimit,
    Server,
    Client,
}

/// What an error with a code calls for (protocol.md 13.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Obtain a new token and repeat.
    AccessCredentialExpiry,
    /// Sign out.
    SessionExpiry,
    /// Repeat unchanged, later.
    Transient,
    /// Stop: not allowed.
    Permission,
    /// Stop: the credential itself is refused.
    AuthBlocked,
    /// Nothing to be done about the connection.
    None,
}

/// One row of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeSpec {
    /// The code.
    pub code: &'static str,
    /// Its area.
    pub category: Category,
    /// HTTP status, or 0 for codes that never cross the network.
    pub status: u16,
    /// Whether repeating the same request unchanged may succeed.
    pub retryable: bool,
}

const RETRY: bool = true;
const FINAL: bool = false;

/// Codes that have everything but their name in common. A table of one entry per code would be a fiftieth of the package.
struct Group {
    category: Category,
    status: u16,
    retryable: bool,
    /// Separated by spaces.
    codes: &'static str,
}

const fn group(category: Category, status: u16, retryable: bool, codes: &'static str) -> Group {
    Group { category, status, retryable, codes }
}

use crate::core::text::{concat, digits, word};
use Category::*;

static REGISTRY: &[Group] = &[
    group(Auth, 0, FINAL, "browser_apikey_blocked browser_database_url_blocked datasource_registration_failed"),
    group(
        Auth,
        401,
        FINAL,
        "api_key_required apikey_expired apikey_invalid apikey_missing apikey_revoked auth_no_credentials \
         capability_id_missing capability_required exchange_failed file_upload_auth_required \
         identity_missing_organization identity_resolve_failed jwt_audience_mismatch jwt_expired jwt_invalid \
         jwt_issuer_untrusted jwt_malformed jwt_missing_issuer jwt_missing_organization jwt_missing_subject \
         jwt_signature_invalid session_expired source_api_key_unresolved",
    ),
    group(Auth, 403, FINAL, "jwt_org_membership_denied"),
    group(Bootstrap, 502, RETRY, "bootstrap_response_invalid bootstrap_response_schema_invalid"),
    group(Bootstrap, 503, FINAL, "bootstrap_offline_no_cache"),
    group(Bootstrap, 503, RETRY, "bootstrap_offline"),
    group(Bootstrap, 504, RETRY, "bootstrap_fetch_timeout"),
    group(Capability, 403, FINAL, "capability_invalid capability_scope_denied"),
    group(Claim, 0, FINAL, "claim_rejected model_claim_not_configured model_watch_not_configured"),
    group(Claim, 400, FINAL, "malformed_claim slide_intent_missing_deck_id slide_intent_unknown_sibling"),
    group(Claim, 409, FINAL, "claim_conflict claim_lost entity_claimed model_claimed model_claimed_timeout"),
    group(Claim, 409, RETRY, "claim_queued claim_wait_aborted"),
    group(Claim, 503, RETRY, "claim_lease_unavailable"),
    group(Claim, 504, RETRY, "grant_timeout"),
    group(
        Client,
        0,
        FINAL,
        "client_crashed client_disposed db_not_opened idb_unavailable invalid_options model_not_registered \
         outbox_full protocol_violation storage_open_timeout write_too_large",
    ),
    group(
        Conflict,
        409,
        FINAL,
        "foreign_key_violation idempotency_conflict idempotency_window_expired incompatible_change unique_violation",
    ),
    group(Conflict, 409, RETRY, "stale_context"),
    group(
        NotFound,
        404,
        FINAL,
        "capability_not_found entity_not_found model_not_found mutate_update_entity_not_found \
         parent_turn_not_found turn_not_found",
    ),
    group(
        Permission,
        403,
        FINAL,
        "byo_host_not_allowed byo_role_cannot_enforce_rls byo_role_unreadable byo_tenant_tables_unforced_rls \
         database_host_not_allowed database_role_cannot_enforce_rls database_role_unreadable \
         database_tables_unforced_rls forbidden issuer_register_forbidden organization_mismatch \
         parent_turn_foreign_agent project_scope_denied test_database_not_registered turn_foreign_agent \
         wide_scope_forbidden",
    ),
    group(RateLimit, 429, RETRY, "connection_limit_exceeded quota_exceeded rate_limit_exceeded"),
    group(Schema, 0, FINAL, "schema_reserved_field"),
    group(
        Schema,
        400,
        FINAL,
        "schema_field_consecutive_caps schema_field_not_camelcase schema_grants_identifier_unsafe \
         schema_grants_relation_kind schema_grants_relation_missing schema_grants_shape_invalid \
         schema_grants_target_not_scope_root schema_mutable_missing_meta schema_scope_kind_invalid",
    ),
    group(Schema, 500, FINAL, "query_relation_target_unknown schema_scope_invalid schema_table_invalid"),
    group(Server, 500, FINAL, "migration_failed"),
    group(
        Server,
        500,
        RETRY,
        "entity_fetch_failed internal_error presigned_url_failed tenant_routing_failed turn_close_failed \
         turn_open_failed",
    ),
    group(Server, 502, RETRY, "task_id_missing"),
    group(Server, 503, FINAL, "capability_auth_disabled provisioner_unavailable"),
    group(Server, 503, RETRY, "quota_lookup_failed rate_limiter_unavailable"),
    group(
        Tenant,
        400,
        FINAL,
        "model_not_tenant_scoped mutate_create_unknown_model server_execute_unknown_model \
         tenant_model_columns_unknown tenant_model_missing_organization_id unknown_model",
    ),
    group(Transport, 0, FINAL, "base_url_missing fetch_unavailable sync_not_ready ws_not_ready"),
    group(Transport, 500, RETRY, "commit_failed"),
    group(Transport, 502, RETRY, "exchange_malformed_response"),
    group(Transport, 503, FINAL, "commit_offline_grace_expired"),
    group(
        Transport,
        503,
        RETRY,
        "exchange_network_error identity_network_error instance_at_capacity queue_too_deep \
         source_network_error",
    ),
    group(Transport, 504, RETRY, "commit_no_result flush_timeout wait_for_timeout"),
    group(Validation, 0, FINAL, "duration_invalid schema_definition_invalid write_options_invalid"),
    group(
        Validation,
        400,
        FINAL,
        "capability_id_required check_violation claim_id_required commit_operation_action_required \
         commit_operation_model_required commit_operation_required commit_operation_unsupported \
         commit_operations_ambiguous commit_too_many_operations constraint_violation \
         datasource_connection_unsupported events_required idempotency_key_too_long ingest_failed \
         invalid_body invalid_id invalid_intent invalid_json invalid_model invalid_participant_kind \
         invalid_request invalid_schema invalid_sync_group malformed_subscription mesh_message_invalid_input \
         model_identifier_missing model_query_failed model_required_field_missing narrow_scope_required \
         not_null_violation org_id_required presence_identity_required queries_required \
         query_invalid_identifier query_unknown_relation query_unsupported_operator snapshot_reserved_key \
         task_id_required upload_fields_required upload_items_required usage_invalid",
    ),
    group(Validation, 403, FINAL, "mesh_message_from_id_spoof mesh_message_from_kind_mismatch"),
    group(Validation, 409, FINAL, "project_slug_taken"),
    group(Validation, 413, FINAL, "schema_too_large"),
    group(Validation, 422, FINAL, "agent_perception_missing_context turn_validation_failed"),
];

/// All rows of the registry.
pub fn codes() -> impl Iterator<Item = CodeSpec> {
    REGISTRY.iter().flat_map(|group| {
        let Group { category, status, retryable, codes } = group;
        codes.split(' ').map(|code| CodeSpec { code, category: *category, status: *status, retryable: *retryable })
    })
}

/// The registry's row for `code`.
pub fn code_spec(code: &str) -> Option<CodeSpec> {
    for group in REGISTRY {
        if let Some(code) = word(group.codes, code) {
            return Some(CodeSpec { code, category: group.category, status: group.status, retryable: group.retryable });
        }
    }
    None
}

/// Whether repeating a request that failed with `code` unchanged may succeed. Unknown codes: no.
pub fn is_retryable(code: &str) -> bool {
    code_spec(code).is_some_and(|spec| spec.retryable)
}

/// What `code` calls for (protocol.md 13.5; the order of the rules is part of the contract).
pub fn recovery(code: &str) -> Recovery {
    match code_spec(code) {
        _ if code == "apikey_expired" => Recovery::AccessCredentialExpiry,
        _ if code == "session_expired" || code == "jwt_expired" => Recovery::SessionExpiry,
        Some(spec) if spec.retryable => Recovery::Transient,
        Some(spec) if spec.status == 403 => Recovery::Permission,
        Some(spec) if spec.category == Auth => Recovery::AuthBlocked,
        _ => Recovery::None,
    }
}

/// Classes with the codes that always have them.
type Classes = [(&'static str, &'static str)];

static WIRE_CLASSES: [(&str, &str); 3] = [
    ("CapabilityError", "capability_scope_denied capability_invalid"),
    ("AbloClaimedError", "claim_conflict entity_claimed"),
    ("AbloStaleContextError", "stale_context"),
];
static LOCAL_CLASSES: [(&str, &str); 6] = [
    ("SyncSessionError", "session_expired"),
    (
        "AbloClaimedError",
        "claim_lost model_claimed model_claimed_timeout claim_queued claim_lease_unavailable grant_timeout \
         queue_too_deep",
    ),
    ("AbloValidationError", "bootstrap_response_invalid bootstrap_response_schema_invalid capability_id_missing"),
    (
        "AbloAuthenticationError",
        "exchange_malformed_response exchange_network_error identity_network_error browser_apikey_blocked \
         browser_database_url_blocked",
    ),
    ("AbloConnectionError", "ws_not_ready db_not_opened idb_unavailable fetch_unavailable claim_wait_aborted"),
    ("AbloError", "client_crashed protocol_violation"),
];

fn class_in(classes: &Classes, code: &str) -> Option<&'static str> {
    classes.iter().find(|(_, codes)| word(codes, code).is_some()).map(|(class, _)| *class)
}

/// The name of the error class that JavaScript sees, by code and HTTP status (protocol.md 13.4).
pub fn wire_class(code: &str, status: Option<u16>) -> &'static str {
    if let Some(class) = class_in(&WIRE_CLASSES, code) {
        return class;
    }
    match status.or_else(|| code_spec(code).map(|spec| spec.status)) {
        Some(401) => "AbloAuthenticationError",
        Some(403) => "AbloPermissionError",
        Some(409) => "AbloIdempotencyError",
        Some(400 | 422) => "AbloValidationError",
        Some(429) => "AbloRateLimitError",
        Some(500..) => "AbloServerError",
        _ => "AbloError",
    }
}

/// The class of an error that the client raises itself (api.md 5.7).
fn local_class(code: &str) -> &'static str {
    if let Some(class) = class_in(&LOCAL_CLASSES, code) {
        return class;
    }
    match code_spec(code).map(|spec| spec.category) {
        Some(Transport | Bootstrap) => "AbloConnectionError",
        Some(NotFound | Client | Schema | Tenant) => "AbloValidationError",
        Some(_) | None => wire_class(code, None),
    }
}

/// Where an error was raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By this client: the caller's mistake, or something it noticed.
    Local,
    /// By the server.
    Wire,
}

/// Any failure that the engine reports. Match on `code`; the message is for people.
///
/// One pointer wide, so that results are cheap to pass on; reads like the [`ErrorInfo`] it points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Box<ErrorInfo>);

/// What an [`Error`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorInfo {
    /// A code of the registry, or a newer one that a server sent.
    pub code: Cow<'static, str>,
    /// What was wrong and, where there is one, the remedy.
    pub message: String,
    /// Who raised it.
    pub origin: Origin,
    /// HTTP status, when it came from a response.
    pub status: Option<u16>,
    /// The server's id of the failed request.
    pub request_id: Option<String>,
    /// The offending option or field.
    pub param: Option<String>,
    /// How long the server asked to wait, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// Further members, as the text of a JSON object.
    pub details: Option<String>,
}

impl Error {
    /// An error that this client raises.
    pub fn local(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Cow::Borrowed(code), message.into(), Origin::Local)
    }

    /// An error that the server reported.
    pub fn wire(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(code.into(), message.into(), Origin::Wire)
    }

    fn new(code: Cow<'static, str>, message: String, origin: Origin) -> Self {
        Self(Box::new(ErrorInfo {
            code,
            message,
            origin,
            status: None,
            request_id: None,
            param: None,
            retry_after_ms: None,
            details: None,
        }))
    }

    /// Names the offending option or field.
    #[must_use]
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Reads the body of a failed response, in any of the three shapes of protocol.md 13.2. `fallback` is the code when
    /// the body has none.
    pub fn from_response(status: u16, body: &str, request_id: Option<&str>, fallback: &'static str) -> Self {
        let mut error = match Value::parse(body) {
            Ok(value) => Self::from_body(value),
            Err(_) => None,
        }
        .unwrap_or_else(|| Self::wire(fallback, ""));
        if error.code.is_empty() {
            error.code = Cow::Borrowed(fallback);
        }
        if error.message.is_empty() {
            error.message = concat(&["HTTP ", &digits(status as u64)]);
        }
        error.status = Some(status);
        if let Some(id) = request_id {
            error.request_id = Some(id.to_owned());
        }
        error
    }

    /// Reads an error object of a frame or an envelope. `None` when it has neither code nor message.
    pub fn from_body(body: Value<'_>) -> Option<Self> {
        let nested = body.at("error");
        let code = text(body, "code").or_else(|| text(nested, "code")).or_else(|| own_text(nested)).unwrap_or_default();
        let message = text(nested, "message")
            .or_else(|| text(body, "reason"))
            .or_else(|| text(body, "message"))
            .or_else(|| own_text(nested))
            .unwrap_or_default();
        if code.is_empty() && message.is_empty() {
            return None;
        }
        let find = |key: &str| body.get(key).or_else(|| nested.get(key));
        let mut error = Self::wire(code, message);
        error.request_id = find("request_id").and_then(own_text);
        error.param = find("param").or_else(|| find("field")).and_then(own_text);
        error.details = details(&find);
        Some(error)
    }

    /// Whether repeating the same request unchanged may succeed. A stale write never counts: unchanged, it stays stale.
    pub fn is_retryable(&self) -> bool {
        self.code != "stale_context" && is_retryable(&self.code)
    }

    /// What the error calls for.
    pub fn recovery(&self) -> Recovery {
        recovery(&self.code)
    }

    /// The name of the class that JavaScript sees.
    pub fn class(&self) -> &'static str {
        match self.origin {
            Origin::Local => local_class(&self.code),
            Origin::Wire => wire_class(&self.code, self.status),
        }
    }

    /// The error as the JSON object that crosses into JavaScript.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        let mut object = ObjectWriter::new(&mut out);
        object.str("class", self.class());
        object.str("code", &self.code);
        object.str("message", &self.message);
        object.bool("retryable", self.is_retryable());
        let status = self.status.or_else(|| code_spec(&self.code).map(|spec| spec.status).filter(|&s| s > 0));
        if let (Some(status), Origin::Wire) = (status, self.origin) {
            object.u64("httpStatus", u64::from(status));
        }
        object.opt_str("requestId", self.request_id.as_deref());
        object.opt_str("param", self.param.as_deref());
        if let Some(ms) = self.retry_after_ms {
            object.u64("retryAfterMs", ms);
        }
        if let Some(details) = &self.details {
            object.raw("details", details);
        }
        object.end();
        out
    }
}

fn own_text(value: Value<'_>) -> Option<String> {
    value.as_str().map(Cow::into_owned)
}

fn text(value: Value<'_>, key: &str) -> Option<String> {
    own_text(value.at(key))
}

/// The members of an error body that the page may want, whatever nesting they came in.
fn details<'a>(find: &dyn Fn(&str) -> Option<Value<'a>>) -> Option<String> {
    const KEPT: [&str; 8] =
        ["requiredCapability", "claims", "heldByClaim", "heldBy", "policyReason", "conflicts", "readAt", "warnings"];
    let mut out = String::new();
    let mut object = ObjectWriter::new(&mut out);
    for key in KEPT {
        if let Some(value) = find(key) {
            object.raw(key, value.raw);
        }
    }
    object.end();
    (out.len() > 2).then_some(out)
}

impl Deref for Error {
    type Target = ErrorInfo;

    fn deref(&self) -> &ErrorInfo {
        &self.0
    }
}

impl DerefMut for Error {
    fn deref_mut(&mut self) -> &mut ErrorInfo {
        &mut self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        f.write_str(": ")?;
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_has_no_repeats_and_no_gaps() {
        let mut names: Vec<&str> = codes().map(|spec| spec.code).collect();
        names.sort_unstable();
        assert_eq!(names.len(), 186);
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(names.iter().all(|name| !name.is_empty() && code_spec(name).is_some()));
    }

    #[test]
    fn recovery_follows_the_order_of_the_rules() {
        for (code, expected) in [
            ("apikey_expired", Recovery::AccessCredentialExpiry),
            ("session_expired", Recovery::SessionExpiry),
            ("jwt_expired", Recovery::SessionExpiry),
            ("internal_error", Recovery::Transient),
            ("jwt_org_membership_denied", Recovery::Permission),
            ("apikey_revoked", Recovery::AuthBlocked),
            ("unique_violation", Recovery::None),
            ("a_code_from_the_future", Recovery::None),
        ] {
            assert_eq!(recovery(code), expected, "{code}");
        }
    }

    #[test]
    fn bodies_are_read_in_all_three_shapes() {
        for body in [
            r#"{"type":"AbloError","code":"unknown_model","message":"no model x"}"#,
            r#"{"success":false,"error":{"code":"unknown_model","message":"no model x"}}"#,
            r#"{"error":"unknown_model","reason":"no model x"}"#,
        ] {
            let error = Error::from_response(400, body, Some("req_1"), "internal_error");
            assert_eq!((error.code.as_ref(), error.message.as_str()), ("unknown_model", "no model x"));
            assert_eq!(error.class(), "AbloValidationError");
            assert_eq!(error.request_id.as_deref(), Some("req_1"));
        }
        let garbage = Error::from_response(502, "<html>", None, "internal_error");
        assert_eq!((garbage.code.as_ref(), garbage.message.as_str()), ("internal_error", "HTTP 502"));
    }

    #[test]
    fn stale_is_permanent() {
        assert!(!Error::wire("stale_context", "t1 changed").is_retryable());
        assert!(Error::wire("rate_limit_exceeded", "slow down").is_retryable());
    }

    #[test]
    fn errors_cross_as_json() {
        let error = Error::local("entity_not_found", "no task \"t1\"").param("id");
        assert_eq!(
            error.to_json(),
            r#"{"class":"AbloValidationError","code":"entity_not_found","message":"no task \"t1\"","retryable":false,"param":"id"}"#
        );
    }
}
