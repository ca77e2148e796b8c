//! Addresses and what is behind them (protocol.md sections 2, 4 and 5.1 to 5.4).
//!
//! One function decides by method and path segments: paths with `/api` twice are tolerated where clients make them
//! (2.1), unknown ones get an envelope, and files are served where no address fits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};

use ablo_wasm::core::error::Error;
use ablo_wasm::core::wire::OpKind;

use crate::driver::Driver;
use crate::engine::{BootstrapRequest, ClaimAnswer, Participant};
use crate::faults::{Cut, Faults};
use crate::files::{self, StaticDir};
use crate::reply::{self, Failure};
use crate::source::Sources;
use crate::{url, ws};

/// Largest body of a request.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// Where `--faults` is told what to do.
const FAULTS: &str = "/faults";

/// What every request needs.
pub struct App {
    /// The engine's owner.
    pub driver: Arc<Driver>,
    /// Where files come from.
    pub statics: Vec<StaticDir>,
    /// Part of every request id, so that those of different runs differ.
    pub run: String,
    /// `--faults`
    pub(crate) faults: Option<Arc<Faults>>,
    /// Data sources that dial in.
    pub(crate) sources: Arc<Sources>,
    requests: AtomicU64,
}

impl App {
    /// An application of this driver.
    pub(crate) fn new(driver: Arc<Driver>, statics: Vec<StaticDir>, run: String, faults: Option<Arc<Faults>>) -> Self {
        let sources = Arc::new(Sources::new(driver.clone(), run.clone()));
        Self { driver, statics, run, faults, sources, requests: AtomicU64::new(1) }
    }

    /// Answers a request.
    pub async fn handle(&self, request: Request<Body>) -> Response<Body> {
        let started = std::time::Instant::now();
        let id = format!("req_{}{:x}", self.run, self.requests.fetch_add(1, Ordering::Relaxed));
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let is_head = method == Method::HEAD;
        let mut response = match self.fault(&request, &method, &path).await {
            Some(response) => response,
            None if method == Method::OPTIONS => reply::preflight(request.headers()),
            None => match self.route(request).await {
                Ok(response) => response,
                Err(failure) => reply::failure(&failure, &id, is_head),
            },
        };
        reply::finish(&mut response, &id);
        // Never the query or the headers: they may hold credentials.
        tracing::debug!(%method, path, status = response.status().as_u16(), ms = started.elapsed().as_millis(), "request");
        response
    }

    /// What `--faults` makes of a request, if anything. Its own address is never faulted: the test would lock itself out.
    fn fault(
        &self,
        request: &Request<Body>,
        method: &Method,
        path: &str,
    ) -> impl Future<Output = Option<Response<Body>>> + Send {
        let cut = request.extensions().get::<ConnectInfo<Cut>>().map(|ConnectInfo(cut)| cut.clone());
        let faults = self.faults.clone().filter(|_| path != FAULTS);
        let (method, path) = (method.clone(), path.to_owned());
        async move { faults?.intercept(&method, &path, cut).await }
    }

    async fn route(&self, request: Request<Body>) -> Result<Response<Body>, Failure> {
        let unknown = || {
            let error = Error::wire("entity_not_found", "there is nothing at this address");
            Err(Failure::with_status(StatusCode::NOT_FOUND, error))
        };
        if let (FAULTS, Some(faults)) = (request.uri().path(), &self.faults) {
            return set_faults(faults, request).await;
        }
        let Some(segments) = url::segments(request.uri().path()) else { return unknown() };
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        let method = request.method().clone();
        let get = method == Method::GET || method == Method::HEAD;
        match path.as_slice() {
            // Also where a base URL that ends in /api leads.
            ["api", "sync", "ws"] | ["api", "api", "sync", "ws"] if method == Method::GET => self.socket(request),
            ["api", "auth", "check"] | ["api", "api", "auth", "check"] if get => {
                self.authenticate(&request)?;
                self.driver.check_capacity()?;
                Ok(reply::empty(StatusCode::NO_CONTENT))
            }
            ["api", "auth", "check"] | ["api", "api", "auth", "check"] => Err(Failure::method_not_allowed("HEAD")),
            ["api", "sync", "ws"] => Err(Failure::method_not_allowed("GET")),
            ["v1", "source", "listen"] if method == Method::GET => {
                let token = upgrade_token(request.headers());
                self.sources.listen(request, token.as_deref())
            }
            ["v1", "source", "request"] if method == Method::POST => {
                let participant = self.sources.authenticate(bearer(request.headers()))?;
                self.sources.request(&participant, &read_body(request).await?).await
            }
            ["v1", "source", "listen"] => Err(Failure::method_not_allowed("GET")),
            ["v1", "source", "request"] => Err(Failure::method_not_allowed("POST")),
            ["api", "health"] if get => Ok(reply::json("{\"status\":\"healthy\"}".to_owned())),
            ["api", rest @ ..] => self.route_api(rest, request).await?.map_or_else(unknown, Ok),
            _ if get => {
                let path = request.uri().path();
                let found = files::serve(&self.statics, path, request.headers(), method == Method::HEAD).await;
                found.map_or_else(unknown, Ok)
            }
            _ => unknown(),
        }
    }

    /// Paths under `{api}` that need a credential. `None`: there is no such path.
    async fn route_api(&self, path: &[&str], request: Request<Body>) -> Result<Option<Response<Body>>, Failure> {
        let (methods, known): (&'static str, bool) = match path {
            ["auth", "identity"] | ["sync", "bootstrap"] | ["sync", "entity", _, _, ..] => ("GET", true),
            ["auth", "capability" | "ephemeral-keys"] | ["sync", "query"] | ["v1", "commits"] => ("POST", true),
            ["v1", "models", _] => ("GET, POST", true),
            ["v1", "models", _, _] => ("GET, PATCH, DELETE", true),
            ["v1", "models", _, _, "claim"] => ("POST, DELETE", true),
            ["v1", "models", _, _, "claim", "reorder"] => ("POST", true),
            ["v1", "claims"] => ("GET, POST", true),
            ["v1", "claims", _] => ("DELETE", true),
            _ => ("", false),
        };
        if !known {
            return Ok(None);
        }
        let method = if request.method() == Method::HEAD { Method::GET } else { request.method().clone() };
        if !methods.split(", ").any(|allowed| allowed == method.as_str()) {
            return Err(Failure::method_not_allowed(methods));
        }
        let participant = self.authenticate(&request)?;
        let parameters = url::parameters(request.uri().query().unwrap_or_default());
        let token = bearer(request.headers()).unwrap_or_default().to_owned();
        let key = text_header(request.headers(), "idempotency-key");
        let body = if method == Method::GET { String::new() } else { read_body(request).await? };
        let (who, key) = (&*participant, key.as_deref());
        let driver = &self.driver;
        let answer = match (method.as_str(), path) {
            (_, ["auth", "identity"]) => driver.request(|engine, _| Ok(engine.identity(who))).await?,
            (_, ["auth", "capability"]) => {
                driver.request(|engine, now| engine.mint_capability(now, who, &token, &body)).await?
            }
            (_, ["auth", "ephemeral-keys"]) => {
                driver.request(|engine, now| engine.mint_ephemeral_key(now, who, &token, &body)).await?
            }
            (_, ["sync", "bootstrap"]) => {
                let request = bootstrap_request(&parameters);
                driver.request(|engine, now| Ok(engine.bootstrap(now, who, request))).await?
            }
            (_, ["sync", "entity", model, id @ ..]) => {
                // Clients do not encode this path, so an id may bring its own slashes.
                let id = id.join("/");
                driver.request(|engine, _| engine.entity(who, model, &id)).await?
            }
            (_, ["sync", "query"]) => driver.request(|engine, _| engine.query(who, &body)).await?,
            (_, ["v1", "commits"]) => driver.request(|engine, now| engine.commit_request(now, who, key, &body)).await?,
            ("GET", ["v1", "models", model]) => {
                driver.request(|engine, _| engine.list_models(who, model, &parameters)).await?
            }
            ("GET", ["v1", "models", model, id]) => {
                driver.request(|engine, now| engine.read_model(now, who, model, id)).await?
            }
            ("POST", ["v1", "models", model, id, "claim"]) => {
                let claimed = driver.request(|engine, now| engine.claim_row(now, who, model, id, &body)).await?;
                return Ok(Some(claim_answer(claimed?)));
            }
            ("DELETE", ["v1", "models", model, id, "claim"]) => {
                driver.request(|engine, now| engine.release_row(now, who, model, id)).await?
            }
            (_, ["v1", "models", model, id, "claim", "reorder"]) => {
                driver.request(|engine, now| engine.reorder_row(now, who, model, id, &body)).await?
            }
            ("GET", ["v1", "claims"]) => {
                driver.request(|engine, now| engine.list_claims(now, who, &parameters)).await?
            }
            (_, ["v1", "claims"]) => {
                let claimed = driver.request(|engine, now| engine.create_claim(now, who, &body)).await?;
                return Ok(Some(claim_answer(claimed?)));
            }
            (_, ["v1", "claims", id]) => driver.request(|engine, now| Ok(engine.release_claim(now, who, id))).await?,
            (verb, ["v1", "models", model, id @ ..]) => {
                let kind = match verb {
                    "POST" => OpKind::Create,
                    "PATCH" => OpKind::Update,
                    _ => OpKind::Delete,
                };
                let target = (kind, *model, id.first().copied());
                driver.request(|engine, now| engine.write_model(now, who, target, key, &body)).await?
            }
            _ => return Ok(None),
        };
        Ok(Some(reply::json(answer?)))
    }

    fn authenticate(&self, request: &Request<Body>) -> Result<Arc<Participant>, Error> {
        self.authenticate_token(bearer(request.headers()))
    }

    fn authenticate_token(&self, token: Option<&str>) -> Result<Arc<Participant>, Error> {
        let mut answer = Err(Error::wire("internal_error", "the engine did not answer"));
        self.driver.fact(|engine, now| answer = engine.authenticate(now, token));
        answer
    }

    fn socket(&self, mut request: Request<Body>) -> Result<Response<Body>, Failure> {
        let token = upgrade_token(request.headers());
        let participant = self.authenticate_token(token.as_deref())?;
        let parameters = url::parameters(request.uri().query().unwrap_or_default());
        let groups = repeated(&parameters, "syncGroups");
        let seat = self.driver.admit()?;
        Ok(ws::upgrade(&mut request, self.driver.clone(), seat, participant, groups)?)
    }
}

fn claim_answer(answer: ClaimAnswer) -> Response<Body> {
    let mut response = reply::json(answer.body);
    *response.status_mut() = if answer.queued { StatusCode::ACCEPTED } else { StatusCode::CREATED };
    response
}

fn repeated(parameters: &[(String, String)], name: &str) -> Option<Vec<String>> {
    let values: Vec<String> = parameters
        .iter()
        .filter(|(key, value)| key == name && !value.is_empty())
        .map(|(_, value)| value.clone())
        .collect();
    (!values.is_empty()).then_some(values)
}

fn bootstrap_request(parameters: &[(String, String)]) -> BootstrapRequest {
    let models = parameters.iter().find(|(key, value)| key == "models" && !value.is_empty());
    BootstrapRequest {
        sync_groups: repeated(parameters, "syncGroups"),
        models: models.map(|(_, list)| list.split(',').map(|name| name.trim().to_owned()).collect()),
    }
}

fn text_header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The token of an upgrade: browsers cannot set headers on one; other clients may use the usual one.
fn upgrade_token(headers: &HeaderMap) -> Option<String> {
    ws::bearer(headers).or_else(|| bearer(headers).map(str::to_owned))
}

async fn set_faults(faults: &Faults, request: Request<Body>) -> Result<Response<Body>, Failure> {
    let method = request.method().clone();
    if method == Method::POST {
        faults.set(&read_body(request).await?)?;
    } else if method != Method::GET && method != Method::HEAD {
        return Err(Failure::method_not_allowed("GET, POST"));
    }
    Ok(reply::json(faults.report()))
}

async fn read_body(request: Request<Body>) -> Result<String, Failure> {
    let bytes = to_bytes(request.into_body(), BODY_BYTES_MAX).await.map_err(|_| {
        let why = format!("the body is not complete, or larger than {} MiB; split it up", BODY_BYTES_MAX >> 20);
        Failure::with_status(StatusCode::PAYLOAD_TOO_LARGE, Error::wire("invalid_body", why))
    })?;
    String::from_utf8(bytes.into()).map_err(|_| Error::wire("invalid_json", "the body is not UTF-8").into())
}
