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

const fn spec(code: &'static str, category: Category, status: u16, retryable: bool) -> CodeSpec {
    CodeSpec { code, category, status, retryable }
}

use Category::*;

/// The registry, sorted by code.
pub static CODES: &[CodeSpec] = &[
    spec("agent_perception_missing_context", Validation, 422, FINAL),
    spec("api_key_required", Auth, 401, FINAL),
    spec("apikey_expired", Auth, 401, FINAL),
    spec("apikey_invalid", Auth, 401, FINAL),
    spec("apikey_missing", Auth, 401, FINAL),
    spec("apikey_revoked", Auth, 401, FINAL),
    spec("auth_no_credentials", Auth, 401, FINAL),
    spec("base_url_missing", Transport, 0, FINAL),
    spec("bootstrap_fetch_timeout", Bootstrap, 504, RETRY),
    spec("bootstrap_offline", Bootstrap, 503, RETRY),
    spec("bootstrap_offline_no_cache", Bootstrap, 503, FINAL),
    spec("bootstrap_response_invalid", Bootstrap, 502, RETRY),
    spec("bootstrap_response_schema_invalid", Bootstrap, 502, RETRY),
    spec("browser_apikey_blocked", Auth, 0, FINAL),
    spec("browser_database_url_blocked", Auth, 0, FINAL),
    spec("byo_host_not_allowed", Permission, 403, FINAL),
    spec("byo_role_cannot_enforce_rls", Permission, 403, FINAL),
    spec("byo_role_unreadable", Permission, 403, FINAL),
    spec("byo_tenant_tables_unforced_rls", Permission, 403, FINAL),
    spec("capability_auth_disabled", Server, 503, FINAL),
    spec("capability_id_missing", Auth, 401, FINAL),
    spec("capability_id_required", Validation, 400, FINAL),
    spec("capability_invalid", Capability, 403, FINAL),
    spec("capability_not_found", NotFound, 404, FINAL),
    spec("capability_required", Auth, 401, FINAL),
    spec("capability_scope_denied", Capability, 403, FINAL),
    spec("check_violation", Validation, 400, FINAL),
    spec("claim_conflict", Claim, 409, FINAL),
    spec("claim_id_required", Validation, 400, FINAL),
    spec("claim_lease_unavailable", Claim, 503, RETRY),
    spec("claim_lost", Claim, 409, FINAL),
    spec("claim_queued", Claim, 409, RETRY),
    spec("claim_rejected", Claim, 0, FINAL),
    spec("claim_wait_aborted", Claim, 409, RETRY),
    spec("client_crashed", Client, 0, FINAL),
    spec("client_disposed", Client, 0, FINAL),
    spec("commit_failed", Transport, 500, RETRY),
    spec("commit_no_result", Transport, 504, RETRY),
    spec("commit_offline_grace_expired", Transport, 503, FINAL),
    spec("commit_operation_action_required", Validation, 400, FINAL),
    spec("commit_operation_model_required", Validation, 400, FINAL),
    spec("commit_operation_required", Validation, 400, FINAL),
    spec("commit_operation_unsupported", Validation, 400, FINAL),
    spec("commit_operations_ambiguous", Validation, 400, FINAL),
    spec("commit_too_many_operations", Validation, 400, FINAL),
    spec("connection_limit_exceeded", RateLimit, 429, RETRY),
    spec("constraint_violation", Validation, 400, FINAL),
    spec("database_host_not_allowed", Permission, 403, FINAL),
    spec("database_role_cannot_enforce_rls", Permission, 403, FINAL),
    spec("database_role_unreadable", Permission, 403, FINAL),
    spec("database_tables_unforced_rls", Permission, 403, FINAL),
    spec("datasource_connection_unsupported", Validation, 400, FINAL),
    spec("datasource_registration_failed", Auth, 0, FINAL),
    spec("db_not_opened", Client, 0, FINAL),
    spec("duration_invalid", Validation, 0, FINAL),
    spec("entity_claimed", Claim, 409, FINAL),
    spec("entity_fetch_failed", Server, 500, RETRY),
    spec("entity_not_found", NotFound, 404, FINAL),
    spec("events_required", Validation, 400, FINAL),
    spec("exchange_failed", Auth, 401, FINAL),
    spec("exchange_malformed_response", Transport, 502, RETRY),
    spec("exchange_network_error", Transport, 503, RETRY),
    spec("fetch_unavailable", Transport, 0, FINAL),
    spec("file_upload_auth_required", Auth, 401, FINAL),
    spec("flush_timeout", Transport, 504, RETRY),
    spec("forbidden", Permission, 403, FINAL),
    spec("foreign_key_violation", Conflict, 409, FINAL),
    spec("grant_timeout", Claim, 504, RETRY),
    spec("idb_unavailable", Client, 0, FINAL),
    spec("idempotency_conflict", Conflict, 409, FINAL),
    spec("idempotency_key_too_long", Validation, 400, FINAL),
    spec("identity_missing_organization", Auth, 401, FINAL),
    spec("identity_network_error", Transport, 503, RETRY),
    spec("identity_resolve_failed", Auth, 401, FINAL),
    spec("incompatible_change", Conflict, 409, FINAL),
    spec("ingest_failed", Validation, 400, FINAL),
    spec("instance_at_capacity", Transport, 503, RETRY),
    spec("internal_error", Server, 500, RETRY),
    spec("invalid_body", Validation, 400, FINAL),
    spec("invalid_id", Validation, 400, FINAL),
    spec("invalid_intent", Validation, 400, FINAL),
    spec("invalid_json", Validation, 400, FINAL),
    spec("invalid_model", Validation, 400, FINAL),
    spec("invalid_options", Client, 0, FINAL),
    spec("invalid_participant_kind", Validation, 400, FINAL),
    spec("invalid_request", Validation, 400, FINAL),
    spec("invalid_schema", Validation, 400, FINAL),
    spec("invalid_sync_group", Validation, 400, FINAL),
    spec("issuer_register_forbidden", Permission, 403, FINAL),
    spec("jwt_audience_mismatch", Auth, 401, FINAL),
    spec("jwt_expired", Auth, 401, FINAL),
    spec("jwt_invalid", Auth, 401, FINAL),
    spec("jwt_issuer_untrusted", Auth, 401, FINAL),
    spec("jwt_malformed", Auth, 401, FINAL),
    spec("jwt_missing_issuer", Auth, 401, FINAL),
    spec("jwt_missing_organization", Auth, 401, FINAL),
    spec("jwt_missing_subject", Auth, 401, FINAL),
    spec("jwt_org_membership_denied", Auth, 403, FINAL),
    spec("jwt_signature_invalid", Auth, 401, FINAL),
    spec("malformed_claim", Claim, 400, FINAL),
    spec("malformed_subscription", Validation, 400, FINAL),
    spec("mesh_message_from_id_spoof", Validation, 403, FINAL),
    spec("mesh_message_from_kind_mismatch", Validation, 403, FINAL),
    spec("mesh_message_invalid_input", Validation, 400, FINAL),
    spec("migration_failed", Server, 500, FINAL),
    spec("model_claim_not_configured", Claim, 0, FINAL),
    spec("model_claimed", Claim, 409, FINAL),
    spec("model_claimed_timeout", Claim, 409, FINAL),
    spec("model_identifier_missing", Validation, 400, FINAL),
    spec("model_not_found", NotFound, 404, FINAL),
    spec("model_not_registered", Client, 0, FINAL),
    spec("model_not_tenant_scoped", Tenant, 400, FINAL),
    spec("model_query_failed", Validation, 400, FINAL),
    spec("model_required_field_missing", Validation, 400, FINAL),
    spec("model_watch_not_configured", Claim, 0, FINAL),
    spec("mutate_create_unknown_model", Tenant, 400, FINAL),
    spec("mutate_update_entity_not_found", NotFound, 404, FINAL),
    spec("narrow_scope_required", Validation, 400, FINAL),
    spec("not_null_violation", Validation, 400, FINAL),
    spec("org_id_required", Validation, 400, FINAL),
    spec("organization_mismatch", Permission, 403, FINAL),
    spec("outbox_full", Client, 0, FINAL),
    spec("parent_turn_foreign_agent", Permission, 403, FINAL),
    spec("parent_turn_not_found", NotFound, 404, FINAL),
    spec("presence_identity_required", Validation, 400, FINAL),
    spec("presigned_url_failed", Server, 500, RETRY),
    spec("project_scope_denied", Permission, 403, FINAL),
    spec("project_slug_taken", Validation, 409, FINAL),
    spec("protocol_violation", Client, 0, FINAL),
    spec("provisioner_unavailable", Server, 503, FINAL),
    spec("queries_required", Validation, 400, FINAL),
    spec("query_invalid_identifier", Validation, 400, FINAL),
    spec("query_relation_target_unknown", Schema, 500, FINAL),
    spec("query_unknown_relation", Validation, 400, FINAL),
    spec("query_unsupported_operator", Validation, 400, FINAL),
    spec("queue_too_deep", Transport, 503, RETRY),
    spec("quota_exceeded", RateLimit, 429, RETRY),
    spec("quota_lookup_failed", Server, 503, RETRY),
    spec("rate_limit_exceeded", RateLimit, 429, RETRY),
    spec("rate_limiter_unavailable", Server, 503, RETRY),
    spec("schema_definition_invalid", Validation, 0, FINAL),
    spec("schema_field_consecutive_caps", Schema, 400, FINAL),
    spec("schema_field_not_camelcase", Schema, 400, FINAL),
    spec("schema_grants_identifier_unsafe", Schema, 400, FINAL),
    spec("schema_grants_relation_kind", Schema, 400, FINAL),
    spec("schema_grants_relation_missing", Schema, 400, FINAL),
    spec("schema_grants_shape_invalid", Schema, 400, FINAL),
    spec("schema_grants_target_not_scope_root", Schema, 400, FINAL),
    spec("schema_mutable_missing_meta", Schema, 400, FINAL),
    spec("schema_reserved_field", Schema, 0, FINAL),
    spec("schema_scope_invalid", Schema, 500, FINAL),
    spec("schema_scope_kind_invalid", Schema, 400, FINAL),
    spec("schema_table_invalid", Schema, 500, FINAL),
    spec("schema_too_large", Validation, 413, FINAL),
    spec("server_execute_unknown_model", Tenant, 400, FINAL),
    spec("session_expired", Auth, 401, FINAL),
    spec("slide_intent_missing_deck_id", Claim, 400, FINAL),
    spec("slide_intent_unknown_sibling", Claim, 400, FINAL),
    spec("snapshot_reserved_key", Validation, 400, FINAL),
    spec("source_api_key_unresolved", Auth, 401, FINAL),
    spec("source_network_error", Transport, 503, RETRY),
    spec("stale_context", Conflict, 409, RETRY),
    spec("storage_open_timeout", Client, 0, FINAL),
    spec("sync_not_ready", Transport, 0, FINAL),
    spec("task_id_missing", Server, 502, RETRY),
    spec("task_id_required", Validation, 400, FINAL),
    spec("tenant_model_columns_unknown", Tenant, 400, FINAL),
    spec("tenant_model_missing_organization_id", Tenant, 400, FINAL),
    spec("tenant_routing_failed", Server, 500, RETRY),
    spec("test_database_not_registered", Permission, 403, FINAL),
    spec("turn_close_failed", Server, 500, RETRY),
    spec("turn_foreign_agent", Permission, 403, FINAL),
    spec("turn_not_found", NotFound, 404, FINAL),
    spec("turn_open_failed", Server, 500, RETRY),
    spec("turn_validation_failed", Validation, 422, FINAL),
    spec("unique_violation", Conflict, 409, FINAL),
    spec("unknown_model", Tenant, 400, FINAL),
    spec("upload_fields_required", Validation, 400, FINAL),
    spec("upload_items_required", Validation, 400, FINAL),
    spec("usage_invalid", Validation, 400, FINAL),
    spec("wait_for_timeout", Transport, 504, RETRY),
    spec("wide_scope_forbidden", Permission, 403, FINAL),
    spec("write_options_invalid", Validation, 0, FINAL),
    spec("write_too_large", Client, 0, FINAL),
    spec("ws_not_ready", Transport, 0, FINAL),
];

/// The registry's row for `code`.
pub fn code_spec(code: &str) -> Option<&'static CodeSpec> {
    CODES.binary_search_by(|spec| spec.code.cmp(code)).ok().and_then(|index| CODES.get(index))
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

/// The name of the error class that JavaScript sees, by code and HTTP status (protocol.md 13.4).
pub fn wire_class(code: &str, status: Option<u16>) -> &'static str {
    match (code, status.or_else(|| code_spec(code).map(|spec| spec.status))) {
        ("capability_scope_denied" | "capability_invalid", _) => "CapabilityError",
        ("claim_conflict" | "entity_claimed", _) => "AbloClaimedError",
        ("stale_context", _) => "AbloStaleContextError",
        (_, Some(401)) => "AbloAuthenticationError",
        (_, Some(403)) => "AbloPermissionError",
        (_, Some(409)) => "AbloIdempotencyError",
        (_, Some(400 | 422)) => "AbloValidationError",
        (_, Some(429)) => "AbloRateLimitError",
        (_, Some(500..)) => "AbloServerError",
        _ => "AbloError",
    }
}

/// The class of an error that the client raises itself (api.md 5.7).
fn local_class(code: &str) -> &'static str {
    match code {
        "session_expired" => return "SyncSessionError",
        "claim_lost"
        | "model_claimed"
        | "model_claimed_timeout"
        | "claim_queued"
        | "claim_lease_unavailable"
        | "grant_timeout"
        | "queue_too_deep" => return "AbloClaimedError",
        "bootstrap_response_invalid" | "bootstrap_response_schema_invalid" | "capability_id_missing" => {
            return "AbloValidationError";
        }
        "exchange_malformed_response"
        | "exchange_network_error"
        | "identity_network_error"
        | "browser_apikey_blocked"
        | "browser_database_url_blocked" => return "AbloAuthenticationError",
        "ws_not_ready" | "db_not_opened" | "idb_unavailable" | "fetch_unavailable" | "claim_wait_aborted" => {
            return "AbloConnectionError";
        }
        "client_crashed" | "protocol_violation" => return "AbloError",
        _ => {}
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
    /// A code of [`CODES`], or a newer one that a server sent.
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
            error.message = format!("HTTP {status}");
        }
        error.status = Some(status);
        if let Some(id) = request_id {
            error.request_id = Some(id.to_owned());
        }
        error
    }

    /// Reads an error object of a frame or an envelope. `None` when it has neither code nor message.
    pub fn from_body(body: Value<'_>) -> Option<Self> {
        let nested = body.get("error");
        let code = body
            .get_str("code")
            .or_else(|| nested?.get_str("code"))
            .or_else(|| nested?.as_str())
            .unwrap_or_default()
            .into_owned();
        let message = nested
            .and_then(|error| error.get_str("message"))
            .or_else(|| body.get_str("reason"))
            .or_else(|| body.get_str("message"))
            .or_else(|| nested?.as_str())
            .unwrap_or_default()
            .into_owned();
        if code.is_empty() && message.is_empty() {
            return None;
        }
        let find = |key: &str| body.get(key).or_else(|| nested?.get(key));
        let mut error = Self::wire(code, message);
        error.request_id = find("request_id").and_then(Value::as_str).map(Cow::into_owned);
        error.param = find("param").or_else(|| find("field")).and_then(Value::as_str).map(Cow::into_owned);
        error.details = details(find);
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

/// The members of an error body that the page may want, whatever nesting they came in.
fn details<'a>(find: impl Fn(&str) -> Option<Value<'a>>) -> Option<String> {
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
    fn the_registry_is_sorted_and_without_repeats() {
        assert!(CODES.windows(2).all(|pair| pair[0].code < pair[1].code));
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
