//! A running server: from options to a bound address, and to a quiet end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ablo_wasm::core::schema::Schema;
use ablo_wasm::core::time::{Now, WallTime};
use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::args::Args;
use crate::driver::Driver;
use crate::engine::{Config, Engine};
use crate::faults::{Cut, Cuttable, Faults};
use crate::http::App;
use crate::keys;
use crate::source::Sources;
use crate::store::Store;

/// How long requests and sockets are given to end.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// A server that is listening.
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    driver: Arc<Driver>,
    faults: Option<Arc<Faults>>,
    sources: Arc<Sources>,
    serving: JoinHandle<std::io::Result<()>>,
    timer: JoinHandle<()>,
    store: std::thread::JoinHandle<()>,
}

impl Server {
    /// Reads the files, opens the database and listens.
    ///
    /// # Errors
    /// What is wrong with which option or file, and the remedy.
    pub async fn start(args: Args) -> Result<Self, String> {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = Now::new(0, u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
        let mut store = Store::open(&args.db).map_err(|error| format!("--db: {error}"))?;
        let engine = build_engine(&args, now, &mut store)?;
        let listener = TcpListener::bind(&args.listen).await.map_err(|error| {
            format!("--listen {}: {error}; choose another address, or port 0 for any free one", args.listen)
        })?;
        let address = listener.local_addr().map_err(|error| format!("--listen {}: {error}", args.listen))?;
        let (driver, batches) = Driver::new(engine, args.max_connections);
        let writer = driver.clone();
        let store = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || store.run(&writer, &batches))
            .map_err(|error| format!("cannot start the store's thread: {error}"))?;
        let ticking = driver.clone();
        let timer = tokio::spawn(async move { ticking.run_timer().await });
        let faults = args.faults.then(|| Arc::new(Faults::new(driver.clone(), args.max_connections)));
        if faults.is_some() {
            tracing::warn!("--faults: whoever reaches this server can make it misbehave; for tests only");
        }
        let app = Arc::new(App::new(driver.clone(), args.statics, random_text()?, faults.clone()));
        let sources = app.sources.clone();
        let router = Router::new().fallback(move |request| {
            let app = app.clone();
            async move { app.handle(request).await }
        });
        // Small frames must not wait for others: a confirmed write is one round trip.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let (stop, mut stopped) = watch::channel(false);
        let serving = tokio::spawn(async move {
            let quiet = async move {
                // Ends with the value or with the server that holds the sender: either way it is time.
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            if args.faults {
                let router = router.into_make_service_with_connect_info::<Cut>();
                axum::serve(Cuttable(listener), router).with_graceful_shutdown(quiet).await
            } else {
                axum::serve(listener, router).with_graceful_shutdown(quiet).await
            }
        });
        Ok(Self { address, stop, driver, faults, sources, serving, timer, store })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves when the database can no longer be written; the server must be stopped then.
    pub async fn failed(&self) {
        self.driver.store_failed().await;
    }

    /// Finishes what is under way, closes sockets with 1012, and writes what has to be written.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(faults) = &self.faults {
            // What is held back could not end.
            faults.reset();
        }
        self.sources.close();
        self.driver.close_all();
        if tokio::time::timeout(DRAIN_MAX, &mut self.serving).await.is_err() {
            tracing::warn!("requests were still running after {} s", DRAIN_MAX.as_secs());
            self.serving.abort();
        }
        // Sockets that opened while the last requests ended.
        self.driver.close_all();
        self.timer.abort();
        self.driver.close_store();
        let store = self.store;
        // The thread ends once it has written what was waiting.
        let ended = tokio::task::spawn_blocking(move || store.join().is_ok()).await;
        if !ended.unwrap_or(false) {
            tracing::error!("the store's thread ended in a panic");
        }
    }
}

fn build_engine(args: &Args, now: Now, store: &mut Store) -> Result<Engine, String> {
    let schema = match &args.schema {
        None => None,
        Some(path) => {
            Some(Schema::parse_all(&read(path, "--schema")?).map_err(|error| name("--schema", path, &error.message))?)
        }
    };
    let keys = match &args.keys {
        None => Vec::new(),
        Some(path) => parse_keys(path, now.wall)?,
    };
    if keys.is_empty() {
        tracing::warn!("no keys: nobody can connect; give --keys FILE");
    }
    let first = keys.first().map(|key| key.participant.organization.to_string());
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| format!("the operating system gives no randomness: {error}"))?;
    let config = Config {
        schema,
        keys,
        idempotency_window_ms: args.idempotency_window_ms,
        key_ttl_ms: args.key_ttl_ms,
        claim_renewal_ms: args.claim_renewal_ms,
        events: args.events.clone(),
    };
    let mut engine = Engine::new(config, seed);
    let stored = store.load().map_err(|error| format!("--db {}: {error}", args.db))?;
    engine.load(stored).map_err(|error| format!("--db {}: {}", args.db, error.message))?;
    engine.sweep(now);
    if let Some(path) = args.seed_file.as_ref().filter(|_| engine.is_empty()) {
        let organization = args.seed_organization.clone().or(first);
        let organization =
            organization.ok_or("--seed-file needs an organization: give --keys or --seed-organization")?;
        let text = read(path, "--seed-file")?;
        let count =
            engine.seed(now, &organization, &text).map_err(|error| name("--seed-file", path, &error.to_string()))?;
        tracing::info!("seeded {count} rows");
    }
    let mut changes = Vec::new();
    while let Some(output) = engine.poll_output() {
        if let crate::engine::Output::Store(change) = output {
            changes.push(change);
        }
    }
    store.write(&changes).map_err(|error| format!("--db {}: {error}", args.db))?;
    Ok(engine)
}

fn parse_keys(path: &Path, now: WallTime) -> Result<Vec<crate::engine::StaticKey>, String> {
    keys::parse(&read(path, "--keys")?, now).map_err(|why| name("--keys", path, &why))
}

fn read(path: &Path, option: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| name(option, path, &format!("{error}; give a readable UTF-8 file")))
}

fn name(option: &str, path: &Path, why: &str) -> String {
    format!("{option} {}: {why}", path.display())
}

/// Letters that tell this run's request ids from those of others.
fn random_text() -> Result<String, String> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|error| format!("the operating system gives no randomness: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
