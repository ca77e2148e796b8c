//! `--static`: files of a directory, under `/` or a prefix.
//!
//! No listing, no compression, no ranges. A path never leads out of its directory: odd segments are refused, and what
//! is left is resolved, links included, and must still be inside.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::reply;
use crate::url;

/// Largest file that is served.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A directory and where it appears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticDir {
    /// Path segments before its own; none for `/`.
    pub prefix: Vec<String>,
    /// The directory, resolved.
    pub root: PathBuf,
}

impl StaticDir {
    /// Reads `DIR` or `/prefix=DIR`.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn parse(value: &str) -> Result<Self, String> {
        let (prefix, dir) = match value.split_once('=') {
            // A directory may have `=` in its name; a prefix always starts with a slash.
            Some((prefix, dir)) if prefix.starts_with('/') && !Path::new(value).is_dir() => (prefix, dir),
            _ => ("", value),
        };
        let root = Path::new(dir).canonicalize().ok().filter(|root| root.is_dir());
        let root =
            root.ok_or_else(|| format!("--static {value}: {dir} is no directory; build it first or correct the path"))?;
        let prefix = url::segments(prefix).ok_or_else(|| format!("--static {value}: the prefix is no path"))?;
        Ok(Self { prefix, root })
    }
}

/// The file for a path, if there is one. Earlier directories win; longer prefixes first.
pub(crate) async fn serve(
    dirs: &[StaticDir],
    path: &str,
    headers: &HeaderMap,
    is_head: bool,
) -> Option<Response<Body>> {
    let segments = url::segments(path)?;
    let mut fitting: Vec<&StaticDir> = dirs.iter().filter(|dir| segments.starts_with(&dir.prefix)).collect();
    fitting.sort_by_key(|dir| std::cmp::Reverse(dir.prefix.len()));
    for dir in fitting {
        let rest = segments.get(dir.prefix.len()..).unwrap_or_default();
        if let Some(response) = from_dir(dir, rest, headers, is_head).await {
            return Some(response);
        }
    }
    None
}

async fn from_dir(dir: &StaticDir, segments: &[String], headers: &HeaderMap, is_head: bool) -> Option<Response<Body>> {
    let plain = |segment: &String| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && !segment.contains(['/', '\\', '\0'])
            && !Path::new(segment).is_absolute()
    };
    if !segments.iter().all(plain) {
        return None;
    }
    let mut path = segments.iter().fold(dir.root.clone(), |path, segment| path.join(segment));
    if tokio::fs::metadata(&path).await.ok()?.is_dir() {
        path.push("index.html");
    }
    let path = tokio::fs::canonicalize(&path).await.ok()?;
    if !path.starts_with(&dir.root) {
        return None;
    }
    let metadata = tokio::fs::metadata(&path).await.ok().filter(std::fs::Metadata::is_file)?;
    if metadata.len() > FILE_BYTES_MAX {
        return None;
    }
    let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let etag = format!("\"{:x}-{:x}\"", metadata.len(), modified.as_nanos());
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|list| list.to_str().ok());
    let unchanged = known.flat_map(|list| list.split(',')).any(|tag| tag.trim().trim_start_matches("W/") == etag);
    let mut response = if unchanged {
        reply::empty(StatusCode::NOT_MODIFIED)
    } else if is_head {
        let mut response = reply::empty(StatusCode::OK);
        response.headers_mut().insert(header::CONTENT_LENGTH, metadata.len().into());
        response
    } else {
        Response::new(Body::from(tokio::fs::read(&path).await.ok()?))
    };
    let answer = response.headers_mut();
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static(mime(&path)));
    // Always asked for again, cheaply: a rebuilt page must never run with an old module.
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        answer.insert(header::ETAG, etag);
    }
    Some(response)
}

fn mime(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    match extension.as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "js" | "mjs" | "cjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "txt" | "md" | "ts" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
