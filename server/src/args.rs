//! The command line. `--help` is the manual.

use std::path::PathBuf;

use crate::files::StaticDir;

/// What `--help` prints.
pub const HELP: &str = "\
ablo-server: the reference sync server

Keeps shared rows in step between browsers, servers and agents: snapshots, live deltas and atomic commits over
HTTP and WebSocket, rows in one SQLite file. All rows are held in memory while it runs. So are claims and presence,
which a restart forgets: clients announce theirs again, and what was written under a claim from before is refused.

Usage: ablo-server [OPTIONS]

  --listen HOST:PORT      where to listen; port 0 takes any free one   [127.0.0.1:8787]
  --db FILE               the database; `:memory:` keeps nothing       [:memory:]
  --keys FILE             who may connect (see below); without it nobody may
  --schema FILE           schema JSON, version 3; without it any model is accepted as it comes, and rows are routed
                          to their organization only
  --static DIR            serve files at /; `/prefix=DIR` serves them under a prefix; may be given several times
  --seed-file FILE        JSON object { \"Task\": [rows...] } put into an empty database, once
  --seed-organization ID  whose rows they are                          [that of the first key]
  --idempotency-window DURATION
                          how long an accepted commit is recognized when it comes again: 7d, 12h, 30m, 90s. A commit
                          whose `createdAt` is older, and whose key is unknown, is refused with
                          `idempotency_window_expired`: nobody could tell whether it is new   [7d]
  --key-ttl DURATION      how long a minted key lives when the request gives no `ttlSeconds`, 30d at most; agents' keys
                          live 3m at least. Its sockets are closed with 4010 when it ends   [15m]
  --claim-renewal DURATION
                          how long a claim outlives the last frame of its holder's connection, and a place in line that
                          of whoever waits. Clients that have nothing to say ping every 30 s: give more than that  [90s]
  --event NAME            a collaboration event of the application's, such as board:cursor, that is relayed to connections
                          which share a group with its sender; may be given several times
                          [always: sheet:selection, slide:selection, slide:cursor]
  --max-connections N     how many sockets there may be; more, and the probe of whoever wants one, are answered 503
                          `instance_at_capacity` with `Retry-After`   [1000000]
  --faults                for tests only: `POST /faults` makes the server misbehave (refuse, stall, cut, close sockets,
                          end keys), `GET /faults` counts requests. Nobody is asked for a key there, so never give it
                          to a server that others can reach
  --log LEVEL             off, error, warn, info, debug or trace, to standard error   [info]
  --help, --version

The keys file is a JSON array of objects:
  token              what is sent as `Authorization: Bearer <token>`: letters, digits and - _ . only.
                     sk_... is full authority and may mint other keys, pk_... may only read
  participantKind    user, agent or system
  participantId      who it is
  organizationId     the tenant; nothing is shared between tenants
  syncGroups         what it may read       [org:<organization>, and user:<id> for a user]
  operations         what it may write: \"*\", \"tasks.*\", \"tasks.update\"; \"claim.reorder\" lets it put the
                     lines of waiting claims in another order                          [\"*\"]
  expiresInSeconds   counted from the start of the server                      [never]

Data sources: a connector (`createSourceConnector` of ablo-wasm/source) dials in at /v1/source/listen with a key of the kind
sk_... To try it, `POST /v1/source/request` with the same key and the body of a source request: the server signs it, sends
it to the connector, and answers what the connector answers, within 30 s. It routes no models to sources.

The first line on standard output is `listening http://HOST:PORT`. Ctrl-C or SIGTERM finishes what is under way,
closes sockets with 1012 and exits with 0. A mistake in options or files exits with 2.
";

/// The options, read.
#[derive(Clone, Debug)]
pub struct Args {
    /// `--listen`
    pub listen: String,
    /// `--db`
    pub db: String,
    /// `--keys`
    pub keys: Option<PathBuf>,
    /// `--schema`
    pub schema: Option<PathBuf>,
    /// `--static`
    pub statics: Vec<StaticDir>,
    /// `--seed-file`
    pub seed_file: Option<PathBuf>,
    /// `--seed-organization`
    pub seed_organization: Option<String>,
    /// `--idempotency-window`, in milliseconds
    pub idempotency_window_ms: u64,
    /// `--key-ttl`, in milliseconds
    pub key_ttl_ms: u64,
    /// `--claim-renewal`, in milliseconds
    pub claim_renewal_ms: u64,
    /// `--event`: wire types.
    pub events: Vec<String>,
    /// `--max-connections`
    pub max_connections: usize,
    /// `--faults`
    pub faults: bool,
    /// `--log`
    pub log: tracing::metadata::LevelFilter,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8787".to_owned(),
            db: ":memory:".to_owned(),
            keys: None,
            schema: None,
            statics: Vec::new(),
            seed_file: None,
            seed_organization: None,
            idempotency_window_ms: crate::engine::IDEMPOTENCY_WINDOW_MS,
            key_ttl_ms: crate::engine::KEY_TTL_MS,
            claim_renewal_ms: crate::engine::CLAIM_RENEWAL_MS,
            events: Vec::new(),
            max_connections: crate::driver::CONNECTIONS_MAX,
            faults: false,
            log: tracing::metadata::LevelFilter::INFO,
        }
    }
}

/// What the command line asks for.
#[expect(clippy::large_enum_variant, reason = "there is one, at the start")]
#[derive(Clone, Debug)]
pub enum Asked {
    /// To serve.
    Serve(Args),
    /// To print this and stop.
    Print(String),
}

impl Args {
    /// Reads a command line, without the program's name.
    ///
    /// # Errors
    /// What is wrong, and the remedy.
    pub fn parse(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Asked, String> {
        use lexopt::prelude::*;
        let mut args = Self::default();
        let mut parser = lexopt::Parser::from_args(arguments);
        let bad = |error: lexopt::Error| format!("{error}; see --help");
        while let Some(argument) = parser.next().map_err(bad)? {
            let name = match argument {
                Long(name) => name.to_owned(),
                Short('h') => "help".to_owned(),
                Short('V') => "version".to_owned(),
                other @ (Short(_) | Value(_)) => return Err(format!("{}; see --help", other.unexpected())),
            };
            let mut text = || parser.value().and_then(|value| value.string()).map_err(bad);
            match name.as_str() {
                "listen" => args.listen = text()?,
                "db" => args.db = text()?,
                "keys" => args.keys = Some(text()?.into()),
                "schema" => args.schema = Some(text()?.into()),
                "static" => args.statics.push(StaticDir::parse(&text()?)?),
                "seed-file" => args.seed_file = Some(text()?.into()),
                "seed-organization" => args.seed_organization = Some(text()?),
                "idempotency-window" => args.idempotency_window_ms = duration(&name, &text()?, "7d")?,
                "claim-renewal" => args.claim_renewal_ms = duration(&name, &text()?, "90s")?,
                "event" => {
                    let asked = text()?;
                    let why = || {
                        format!(
                            "--event {asked}: lower-case words with : or _ between them, none of the protocol's own"
                        )
                    };
                    args.events.push(crate::engine::event_type(&asked).ok_or_else(why)?);
                }
                "key-ttl" => {
                    let asked = text()?;
                    args.key_ttl_ms = duration(&name, &asked, "15m")?;
                    if args.key_ttl_ms > crate::engine::KEY_TTL_MAX_MS {
                        return Err(format!("--key-ttl {asked}: a key lives 30d at most"));
                    }
                }
                "max-connections" => {
                    let count = text()?;
                    let number = count.parse().ok().filter(|number| *number > 0);
                    args.max_connections = number
                        .ok_or_else(|| format!("--max-connections {count}: give a number above zero, such as 1000"))?;
                }
                "faults" => args.faults = true,
                "log" => {
                    let level = text()?;
                    args.log = level.parse().map_err(|_| {
                        format!("--log {level}: the levels are off, error, warn, info, debug and trace")
                    })?;
                }
                "help" => return Ok(Asked::Print(HELP.to_owned())),
                "version" => return Ok(Asked::Print(format!("ablo-server {}\n", env!("CARGO_PKG_VERSION")))),
                other => return Err(format!("there is no option --{other}; see --help")),
            }
        }
        Ok(Asked::Serve(args))
    }
}

/// The units of durations, largest first.
const UNITS: [(&str, u64); 4] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];

/// The duration that an option was given.
fn duration(option: &str, text: &str, example: &str) -> Result<u64, String> {
    parse_duration(text)
        .ok_or_else(|| format!("--{option} {text}: give a number above zero and d, h, m or s, such as {example}"))
}

/// Reads `7d`, `12h`, `30m` or `90s` as milliseconds.
fn parse_duration(text: &str) -> Option<u64> {
    let (unit, ms) = UNITS.into_iter().find(|(unit, _)| text.ends_with(unit))?;
    let digits = text.strip_suffix(unit)?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|count| plain && *count > 0)?.checked_mul(ms)
}

/// The duration in the largest unit that divides it, as `parse_duration` reads it.
pub(crate) fn format_duration(ms: u64) -> String {
    match UNITS.into_iter().find(|(_, unit)| ms.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", ms / unit),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Result<Asked, String> {
        Args::parse(line.iter().map(std::ffi::OsString::from))
    }

    #[test]
    fn options_are_read_and_mistakes_are_named() {
        let Ok(Asked::Serve(args)) = parse(&["--listen", "[::1]:0", "--db=x.db", "--log", "warn"]) else {
            panic!("refused")
        };
        assert_eq!((args.listen.as_str(), args.db.as_str()), ("[::1]:0", "x.db"));
        for (line, word) in [
            (&["--static", "no/such/dir"][..], "no directory"),
            (&["--log", "loud"], "levels"),
            (&["--idempotency-window", "7"], "--idempotency-window 7:"),
            (&["--idempotency-window", "0d"], "above zero"),
            (&["--idempotency-window", "+1d"], "above zero"),
            (&["--idempotency-window", "999999999999999d"], "above zero"),
            (&["--key-ttl", "soon"], "--key-ttl soon: give a number above zero"),
            (&["--key-ttl", "31d"], "30d at most"),
            (&["--claim-renewal", "90"], "--claim-renewal 90: give a number above zero"),
            (&["--max-connections", "0"], "--max-connections 0: give a number above zero"),
            (&["--port", "1"], "--port"),
            (&["--db"], "--db"),
            (&["extra"], "extra"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        for (text, ms) in [("7d", 604_800_000), ("12h", 43_200_000), ("30m", 1_800_000), ("90s", 90_000)] {
            let Ok(Asked::Serve(args)) = parse(&["--idempotency-window", text]) else { panic!("refused {text}") };
            assert_eq!((args.idempotency_window_ms, format_duration(ms).as_str()), (ms, text));
        }
        let Ok(Asked::Serve(args)) = parse(&["--key-ttl", "30d"]) else { panic!("refused") };
        assert_eq!(args.key_ttl_ms, 30 * 86_400_000);
        let Ok(Asked::Serve(args)) = Args::parse(["--event", "board:cursor"].map(Into::into)) else { panic!() };
        assert_eq!(args.events, ["board_cursor"]);
        assert!(Args::parse(["--event", "claim:lost"].map(Into::into)).is_err());
        assert!(matches!(parse(&["--help"]), Ok(Asked::Print(text)) if text.contains("--seed-organization")));
    }
}
