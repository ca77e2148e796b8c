//! HTTP answers: JSON bodies, the error envelope (protocol.md 13.1), and the headers that every answer carries (2.2).

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use ablo_wasm::core::error::{Error, code_spec};
use ablo_wasm::core::json::{ObjectWriter, Value};

/// Version of the error contract.
const CONTRACT_VERSION: &str = "2026-06-20";
/// Why a probe or an upgrade was refused.
pub(crate) const AUTH_FAILURE: HeaderName = HeaderName::from_static("x-auth-failure");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const METHODS: &str = "GET, HEAD, POST, PATCH, DELETE, OPTIONS";
const REQUEST_HEADERS: &str = "Authorization, Content-Type, Cache-Control, Pragma, Idempotency-Key";
const EXPOSED_HEADERS: &str = "X-Auth-Failure, x-request-id, ETag, Retry-After, Content-Length, Ablo-Version";

/// A request that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    status: Option<StatusCode>,
    error: Error,
    /// Methods that would have done.
    allow: Option<&'static str>,
}

impl Failure {
    /// A failure with another status than its code is registered with.
    pub(crate) fn with_status(status: StatusCode, error: Error) -> Self {
        Self { status: Some(status), error, allow: None }
    }

    /// The path is known, the method is not.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let error = Error::wire("invalid_request", format!("this path takes {allow}"));
        Self { status: Some(StatusCode::METHOD_NOT_ALLOWED), error, allow: Some(allow) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { status: None, error, allow: None }
    }
}

/// 200 with a JSON body.
pub(crate) fn json(body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// The error envelope.
pub(crate) fn failure(failure: &Failure, request_id: &str, is_head: bool) -> Response<Body> {
    let error = &failure.error;
    let registered = code_spec(&error.code).map_or(0, |spec| spec.status);
    let status = failure.status.or_else(|| StatusCode::from_u16(registered).ok());
    let status = status.filter(|status| status.as_u16() >= 400).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut body = String::new();
    let mut object = ObjectWriter::new(&mut body);
    object.str("type", class(error, status.as_u16()));
    object.str("code", &error.code);
    object.str("message", &error.message);
    object.opt_str("param", error.param.as_deref());
    object.str("doc_url", &format!("https://docs.abloatai.com/errors#{}", error.code));
    object.str("request_id", request_id);
    let details = error.details.as_deref().and_then(|details| Value::parse(details).ok());
    for (key, value) in details.into_iter().flat_map(Value::members) {
        object.raw(&key.decode(), value.raw);
    }
    object.end();
    let mut response = if is_head { empty(status) } else { json(body) };
    *response.status_mut() = status;
    let headers = response.headers_mut();
    // A full server refuses upgrades, so the probe has to say that it would (protocol.md 14.3).
    let concerns_probe = status == StatusCode::UNAUTHORIZED || error.code == "instance_at_capacity";
    if let (true, Ok(code)) = (concerns_probe, HeaderValue::from_str(&error.code)) {
        headers.insert(AUTH_FAILURE, code);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if let Some(allow) = failure.allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    response
}

/// The class name that the wire uses: `CapabilityError` is a client's own refinement of it.
fn class(error: &Error, status: u16) -> &'static str {
    match ablo_wasm::core::error::wire_class(&error.code, Some(status)) {
        "CapabilityError" => "AbloPermissionError",
        class => class,
    }
}

/// The answer to a preflight: any origin, since no request carries cookies, and any header the application sends.
pub(crate) fn preflight(request: &HeaderMap) -> Response<Body> {
    let mut response = empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    let asked = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let allowed = asked.unwrap_or(HeaderValue::from_static(REQUEST_HEADERS));
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// Adds what every answer carries.
pub(crate) fn finish(response: &mut Response<Body>, request_id: &str) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    headers.insert(HeaderName::from_static("ablo-version"), HeaderValue::from_static(CONTRACT_VERSION));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
}
