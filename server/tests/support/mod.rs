//! A server on a free port, and the two kinds of client that talk to it: one HTTP request at a time, and a socket.
//!
//! The HTTP client is written out so that tests can send what well-behaved ones would not (`..` in a path, half a body).

#![allow(dead_code, reason = "each test program uses a part")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ablo_server::args::{Args, Asked};
use ablo_server::server::Server;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};

/// Longer than anything here takes on a busy machine: a test that hangs says where.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A directory that goes away with its test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("ablo-server-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory can be made");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("inside the directory")).expect("directories can be made");
        std::fs::write(&path, text).expect("a temporary file can be written");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The keys that tests use.
pub(crate) fn keys() -> Value {
    let user = |token: &str, id: &str, organization: &str| json!({"token":token,"participantKind":"user","participantId":id,"organizationId":organization});
    json!([
        {"token":"sk_test_root","participantKind":"system","participantId":"system:acme","organizationId":"acme"},
        user("ek_test_a", "a", "acme"),
        user("ek_test_b", "b", "acme"),
        user("ek_test_eve", "eve", "evil"),
        {"token":"pk_test_view","participantKind":"user","participantId":"v","organizationId":"acme"},
        {"token":"rk_test_deck","participantKind":"agent","participantId":"agent:d","organizationId":"acme",
         "syncGroups":["deck:d1"],"operations":["tasks.update","slides.*"]},
        {"token":"ek_test_old","participantKind":"user","participantId":"o","organizationId":"acme","expiresInSeconds":0},
    ])
}

pub(crate) const SCHEMA: &str = r#"{"v":3,"models":{
    "tasks":{"typename":"Task","fields":{"title":{"type":"string","isOptional":true}},"relations":{}},
    "decks":{"typename":"SlideDeck","scope":"deck","fields":{"name":{"type":"string","isOptional":true}},"relations":{}},
    "slides":{"typename":"Slide","fields":{"deckId":{"type":"string","isOptional":true}},
        "relations":{"deck":{"type":"belongsTo","target":"decks","foreignKey":"deckId","options":{"parent":true}}}}}}"#;

/// A running server with its files.
pub(crate) struct World {
    pub(crate) scratch: Scratch,
    server: Option<Server>,
    options: Vec<String>,
}

impl World {
    /// With a schema, the usual keys and a database file.
    pub(crate) async fn start(more: &[&str]) -> Self {
        Self::start_with(Scratch::new(), more).await
    }

    pub(crate) async fn start_with(scratch: Scratch, more: &[&str]) -> Self {
        let text = |path: &Path| path.to_str().expect("a UTF-8 path").to_owned();
        let mut options = vec!["--listen".to_owned(), "127.0.0.1:0".to_owned()];
        options.extend(["--keys".to_owned(), text(&scratch.write("keys.json", keys().to_string()))]);
        options.extend(["--schema".to_owned(), text(&scratch.write("schema.json", SCHEMA))]);
        options.extend(["--db".to_owned(), text(&scratch.path("rows.db"))]);
        options.extend(more.iter().map(|&option| option.to_owned()));
        let mut world = Self { scratch, server: None, options };
        world.server = Some(world.launch().await);
        world
    }

    async fn launch(&self) -> Server {
        let Ok(Asked::Serve(args)) = Args::parse(self.options.iter().map(Into::into)) else { panic!("bad options") };
        Server::start(args).await.expect("the server starts")
    }

    /// Stops the server and starts it again on the same files (and another port).
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.server = Some(self.launch().await);
    }

    pub(crate) async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }

    pub(crate) fn address(&self) -> String {
        self.server.as_ref().expect("it runs").address().to_string()
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn http(&self, method: &str, path: &str, token: &str, body: &str) -> Reply {
        self.http_with(method, path, token, &[], body).await
    }

    pub(crate) async fn http_with(
        &self,
        method: &str,
        path: &str,
        token: &str,
        more: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !token.is_empty() {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        for (name, value) in more {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        let mut stream = TcpStream::connect(self.address()).await.expect("it listens");
        stream.write_all(head.as_bytes()).await.expect("the head is sent");
        // A server that refuses a large body may answer before it has all of it.
        let _ = stream.write_all(body.as_bytes()).await;
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
        let _ = read.expect("the server answers");
        Reply::parse(&bytes)
    }

    /// Sends a request without a body and leaves the answer to be read later.
    pub(crate) async fn begin(&self, method: &str, path: &str, token: &str) -> Pending {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(self.address()).await.expect("it listens");
        stream.write_all(head.as_bytes()).await.expect("the head is sent");
        Pending(stream)
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Value {
        let reply = self.http("GET", path, token, "").await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        reply.json()
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> Value {
        let reply = self.http("POST", path, token, &body.to_string()).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        reply.json()
    }

    /// Opens a socket.
    pub(crate) async fn socket(&self, token: &str, query: &str) -> Socket {
        self.try_socket(token, query).await.expect("the upgrade is accepted")
    }

    /// Opens a socket; the status when the upgrade is refused.
    pub(crate) async fn try_socket(&self, token: &str, query: &str) -> Result<Socket, (u16, String)> {
        self.open(&format!("/api/sync/ws?{query}"), "ablo.sync.v1", token).await
    }

    /// Opens a socket at this address with this subprotocol.
    pub(crate) async fn open(&self, path: &str, protocol: &str, token: &str) -> Result<Socket, (u16, String)> {
        let url = format!("ws://{}{path}", self.address());
        let mut request = url.into_client_request().expect("a good request");
        let offered = if token.is_empty() { protocol.to_owned() } else { format!("ablo.bearer.{token}, {protocol}") };
        request.headers_mut().insert("sec-websocket-protocol", offered.parse().expect("a good header"));
        let stream = TcpStream::connect(self.address()).await.expect("it listens");
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, response)) => {
                assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
                Ok(Socket { socket, keys: 0 })
            }
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                let code = response.headers().get("x-auth-failure").and_then(|code| code.to_str().ok());
                Err((response.status().as_u16(), code.unwrap_or_default().to_owned()))
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A request whose answer has not been read yet.
pub(crate) struct Pending(TcpStream);

impl Pending {
    pub(crate) async fn finish(mut self) -> Reply {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut bytes)).await;
        let _ = read.expect("the server answers");
        Reply::parse(&bytes)
    }
}

/// An answer to a request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        Self { status, headers, body: body.to_owned() }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Status and code of an error envelope.
    pub(crate) fn error(&self) -> (u16, String) {
        let envelope = self.json();
        assert_eq!(envelope["request_id"], self.header("x-request-id"), "{envelope}");
        (self.status, envelope["code"].as_str().unwrap_or_default().to_owned())
    }
}

/// An open socket.
pub(crate) struct Socket {
    socket: WebSocketStream<TcpStream>,
    keys: u64,
}

impl Socket {
    pub(crate) async fn send(&mut self, frame: &Value) {
        self.send_text(&frame.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.expect("the frame is sent");
    }

    pub(crate) async fn send_raw(&mut self, message: Message) -> bool {
        self.socket.send(message).await.is_ok()
    }

    /// The next text frame that is not of presence: those come whenever anybody does.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            let frame = self.next_of_any().await;
            if frame["type"] != "presence_update" {
                return frame;
            }
        }
    }

    /// The next frame of presence: its payload.
    pub(crate) async fn presence(&mut self) -> Value {
        let mut frame = self.next_of_any().await;
        assert_eq!(frame["type"], "presence_update", "{frame}");
        frame["payload"].take()
    }

    async fn next_of_any(&mut self) -> Value {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a frame comes");
            match next.expect("the socket is open").expect("the socket works") {
                Message::Text(text) => return serde_json::from_str(&text).expect("frames are JSON"),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// The next frame, which must be of this type: its payload.
    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let mut frame = self.next().await;
        assert_eq!(frame["type"], kind, "{frame}");
        frame["payload"].take()
    }

    /// The code and reason with which the server closes.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("the socket ends");
            match next.expect("a close frame comes first") {
                Ok(Message::Close(Some(frame))) => return (frame.code.into(), frame.reason.to_string()),
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Whether the connection ends with nothing more on it, not even a close frame.
    pub(crate) async fn vanished(&mut self) -> bool {
        let next = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("the connection ends");
        !matches!(next, Some(Ok(_)))
    }

    pub(crate) async fn sync(&mut self, last: u64) -> Value {
        self.send(&json!({"type":"sync_request","payload":{"cursor":null,"lastSyncId":last,
            "capabilities":["partialBootstrap","compressedDeltas","streamingBootstrap","batchedDeltas"]}}))
            .await;
        self.expect("sync_response").await
    }

    /// Nothing else is waiting: the answer to a ping is the next frame.
    pub(crate) async fn quiet(&mut self) {
        self.send(&json!({"type":"ping"})).await;
        assert_eq!(self.next().await, json!({"type":"pong"}));
    }

    /// Commits operations and gives the answer; the echo, if there is one, comes before it.
    pub(crate) async fn commit(&mut self, operations: Value) -> Value {
        self.keys += 1;
        let key = format!("key-{}-{:p}", self.keys, self);
        self.send(&json!({"type":"commit","payload":{"operations":operations,"clientTxId":key}})).await;
        loop {
            let mut frame = self.next().await;
            if frame["type"] == "mutation_result" {
                return frame["payload"].take();
            }
        }
    }

    pub(crate) async fn write(&mut self, kind: &str, model: &str, id: &str, input: Value) -> u64 {
        let result = self.commit(json!([{"type":kind,"model":model,"id":id,"input":input}])).await;
        assert_eq!(result["success"], true, "{result}");
        result["lastSyncId"].as_u64().expect("an id")
    }
}
