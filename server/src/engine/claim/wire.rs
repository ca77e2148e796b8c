//! Claims as they are read from frames and bodies, and the four shapes in which they are told: a summary of a holder
//! (protocol.md 11.7), a claim in presence (11.7), a claim over HTTP (11.8), and an element of a waiting line (8.12).

use std::borrow::Cow;

use ablo_wasm::core::error::Error;
use ablo_wasm::core::json::{Kind, ObjectWriter, Value, write_array};
use ablo_wasm::core::time::{Instant, Now};

use super::{CLAIM_TTL_MAX_MS, CLAIM_TTL_MIN_MS, Claim, Detail, Part};

/// Longest id, name or text of a claim.
const TEXT_MAX: usize = 512;
/// Longest `meta` or `range`.
const OBJECT_MAX: usize = 4096;
/// What a claim is for when it does not say.
const ACTION: &str = "editing";

/// What a sender wants to claim.
#[derive(Debug)]
pub(super) struct Ask {
    pub id: String,
    /// The model as the sender names it.
    pub model: String,
    pub row: String,
    pub part: Part,
    pub detail: Detail,
    /// The life asked for, within the limits.
    pub ttl: Option<u64>,
    /// Whether to wait in line.
    pub queue: bool,
}

pub(super) fn malformed(why: &str, param: &'static str) -> Error {
    Error::wire("malformed_claim", why).param(param)
}

impl Ask {
    /// Reads the payload of `claim_begin`.
    pub(super) fn parse(payload: Value<'_>) -> Result<Self, Error> {
        let detail = read_detail(payload, payload)?;
        let asked = payload.get("estimatedMs").filter(|asked| !asked.is_null());
        let ttl = match asked.map(Value::as_f64) {
            None => None,
            Some(Some(ms)) if ms > 0.0 => Some(within_limits(ms)),
            Some(_) => return Err(malformed("estimatedMs must be a positive number of milliseconds", "estimatedMs")),
        };
        let id = needed(payload, "claimId")?;
        let (model, row) = (needed(payload, "entityType")?, needed(payload, "entityId")?);
        let detail = Detail { entity_type: model.clone(), ..detail };
        let part = read_part(payload, &detail)?;
        Ok(Self { id, model, row, part, detail, ttl, queue: payload.get_bool("queue").unwrap_or(false) })
    }

    /// Reads the body of a request for a claim; what `target` says of the row, or the request's path, is in `model` and
    /// `row` already.
    pub(super) fn parse_body(
        body: Value<'_>,
        target: Value<'_>,
        model: &str,
        row: &str,
        id: String,
        queue: bool,
    ) -> Result<Self, Error> {
        let mut detail = read_detail(body, target)?;
        let meta = target.get("meta").filter(|meta| meta.kind == Kind::Object);
        if let (None, Some(meta)) = (&detail.meta, meta) {
            detail.meta = Some(short_object(meta, "meta")?);
        }
        detail.entity_type = model.to_owned();
        let ttl = body.get("ttl").filter(|ttl| !ttl.is_null()).map(read_ttl).transpose()?;
        let queue = body.get_bool("queue").unwrap_or(queue);
        if model.len() > TEXT_MAX || row.len() > TEXT_MAX || id.len() > TEXT_MAX {
            return Err(malformed("a name of this claim is too long", "target"));
        }
        let part = read_part(target, &detail)?;
        Ok(Self { id, model: model.to_owned(), row: row.to_owned(), part, detail, ttl, queue })
    }
}

/// How much of its row a claim is on. Clients of version 0.15 take the row for the unit, whatever field they name (11.4).
fn read_part(target: Value<'_>, detail: &Detail) -> Result<Part, Error> {
    match (target.get_bool("fieldOnly"), &detail.field) {
        (Some(true), Some(field)) => Ok(Part::Field(field.as_str().into())),
        (Some(true), None) => Err(malformed("fieldOnly needs a field", "field")),
        _ => Ok(Part::Row),
    }
}

fn read_detail(body: Value<'_>, target: Value<'_>) -> Result<Detail, Error> {
    let meta = body.get("meta").filter(|meta| !meta.is_null());
    let range = target.get("range").filter(|range| !range.is_null());
    let described = || meta?.get_string("description");
    let action = optional(body, "action")?.filter(|action| !action.is_empty());
    Ok(Detail {
        entity_type: String::new(),
        action: action.unwrap_or_else(|| ACTION.to_owned()),
        description: optional(body, "description")?.or_else(described),
        field: optional(target, "field")?,
        path: optional(target, "path")?,
        range: range.map(|range| short_object(range, "range")).transpose()?,
        meta: meta.map(|meta| short_object(meta, "meta")).transpose()?,
    })
}

fn short_object(value: Value<'_>, name: &'static str) -> Result<String, Error> {
    if value.kind != Kind::Object || value.raw.len() > OBJECT_MAX {
        return Err(malformed(&format!("{name} must be an object of at most {OBJECT_MAX} bytes"), name));
    }
    Ok(value.raw.to_owned())
}

fn optional(value: Value<'_>, name: &'static str) -> Result<Option<String>, Error> {
    let Some(member) = value.get(name).filter(|member| !member.is_null()) else { return Ok(None) };
    match member.as_str().filter(|text| text.len() <= TEXT_MAX) {
        Some(text) => Ok(Some(text.into_owned())),
        None => Err(malformed(&format!("{name} must be a string of at most {TEXT_MAX} bytes"), name)),
    }
}

/// A name that is there and not empty.
pub(super) fn needed(value: Value<'_>, name: &'static str) -> Result<String, Error> {
    let given = optional(value, name)?.filter(|text| !text.is_empty());
    given.ok_or_else(|| malformed(&format!("a claim needs {name}"), name))
}

fn within_limits(ms: f64) -> u64 {
    // Saturates, and a life has no fractions of milliseconds.
    (ms as u64).clamp(CLAIM_TTL_MIN_MS, CLAIM_TTL_MAX_MS)
}

/// Reads a life: a number of seconds, or `"<n>ms|s|m|h"`.
fn read_ttl(value: Value<'_>) -> Result<u64, Error> {
    let text = value.as_str();
    let ms = match &text {
        None => value.as_f64().map(|seconds| seconds * 1000.0),
        Some(text) => {
            let unit = [("ms", 1.0), ("s", 1000.0), ("m", 60_000.0), ("h", 3_600_000.0)];
            let found = unit.iter().find_map(|(suffix, ms)| Some((text.strip_suffix(suffix)?, ms)));
            found.and_then(|(number, ms)| number.parse::<f64>().ok().map(|number| number * ms))
        }
    };
    let ms = ms.filter(|ms| ms.is_finite() && *ms > 0.0);
    ms.map(within_limits).ok_or_else(|| malformed("ttl must be seconds, or a text such as 30s, 2m or 1h", "ttl"))
}

/// The claim of a held row and when it ends, for telling others.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Claimed<'a> {
    pub claim: &'a Claim,
    /// When it ends, on the wall clock.
    pub expires_at: u64,
    /// The model's name on the wire.
    pub model: &'a str,
}

impl<'a> Claimed<'a> {
    pub(in crate::engine) fn new(claim: &'a Claim, ends: Instant, now: Now, model: &'a str) -> Self {
        Self { claim, expires_at: now.wall.0.saturating_add(ends.since(now.mono)), model }
    }
}

/// Writes the summary of a claim (11.7).
pub(super) fn write_summary(out: &mut String, claimed: &Claimed<'_>) {
    let detail = &claimed.claim.detail;
    let mut object = ObjectWriter::new(out);
    write_common(&mut object, claimed);
    object.opt_str("field", detail.field.as_deref());
    if let Some(meta) = &detail.meta {
        object.raw("meta", meta);
    }
    object.end();
}

/// Writes a claim as presence tells it (11.7).
pub(in crate::engine) fn write_wire(out: &mut String, claimed: &Claimed<'_>, status: &str) {
    let detail = &claimed.claim.detail;
    let mut object = ObjectWriter::new(out);
    write_common(&mut object, claimed);
    write_parts(&mut object, detail, &claimed.claim.part);
    object.str("status", status);
    object.end();
}

fn write_common(object: &mut ObjectWriter<'_>, claimed: &Claimed<'_>) {
    object.str("claimId", &claimed.claim.id);
    object.str("action", &claimed.claim.detail.action);
    object.u64("declaredAt", claimed.claim.declared.0);
    object.u64("expiresAt", claimed.expires_at);
    object.str("entityType", claimed.model);
    object.str("entityId", &claimed.claim.place.row);
}

fn write_parts(object: &mut ObjectWriter<'_>, detail: &Detail, part: &Part) {
    object.opt_str("path", detail.path.as_deref());
    object.opt_str("field", detail.field.as_deref());
    if *part != Part::Row {
        object.bool("fieldOnly", true);
    }
    for (name, part) in [("range", &detail.range), ("meta", &detail.meta)] {
        if let Some(part) = part {
            object.raw(name, part);
        }
    }
}

/// Writes a claim for HTTP (11.8), or as an element of a waiting line (8.12) when `names` says so. `position` is that of
/// a claim that waits.
pub(super) fn write_model_claim(
    out: &mut String,
    claimed: &Claimed<'_>,
    position: Option<usize>,
    names: (&'static str, &'static str),
) {
    let claim = claimed.claim;
    let mut object = ObjectWriter::new(out);
    object.str("object", "claim");
    object.str("id", &claim.id);
    object.str("status", if position.is_some() { "queued" } else { "active" });
    object.object(names.0, |target| {
        target.str(names.1, claimed.model);
        target.str("id", &claim.place.row);
        write_parts(target, &claim.detail, &claim.part);
    });
    object.str("actor", &claim.holder.id);
    object.str("heldBy", &claim.holder.id);
    object.str("participantKind", claim.holder.kind.name());
    object.str("reason", &claim.detail.action);
    object.str("action", &claim.detail.action);
    object.opt_str("description", claim.detail.description.as_deref());
    object.opt_str("field", claim.detail.field.as_deref());
    if let Some(position) = position {
        object.u64("position", position as u64);
    }
    object.u64("createdAt", claim.declared.0);
    object.u64("expiresAt", claimed.expires_at);
    if let Some(grant) = claim.grant {
        object.u64("fencingToken", grant.fence.0);
    }
    object.end();
}

/// An answer about a claim: its frame's type, its id, its target, and what else there is to say.
pub(super) fn answer(kind: &str, claim: &Claim, more: impl FnOnce(&mut ObjectWriter<'_>)) -> String {
    let mut out = String::new();
    let mut frame = ObjectWriter::new(&mut out);
    frame.str("type", kind);
    frame.object("payload", |payload| {
        payload.str("claimId", &claim.id);
        write_target(payload, &claim.detail, &claim.part, &claim.place.row);
        more(payload);
    });
    frame.end();
    out
}

/// `claim_rejected` (8.10).
pub(super) fn rejected(ask: &Ask, error: &Error, holder: Option<&Claimed<'_>>) -> String {
    let mut out = String::new();
    let mut frame = ObjectWriter::new(&mut out);
    frame.str("type", "claim_rejected");
    frame.object("payload", |payload| {
        payload.str("claimId", &ask.id);
        payload.str("reason", if holder.is_some() { "conflict" } else { &error.code });
        payload.str("message", &error.message);
        write_target(payload, &ask.detail, &ask.part, &ask.row);
        if let Some(holder) = holder {
            write_holder(payload, holder);
        }
    });
    frame.end();
    out
}

/// `claim_rejected` for a frame that names a claim and is wrong otherwise: whoever sent it may be waiting.
pub(super) fn rejected_malformed(payload: Value<'_>, error: &Error) -> Option<String> {
    let id = payload.get_str("claimId").filter(|id| !id.is_empty() && id.len() <= TEXT_MAX)?;
    let mut out = String::new();
    let mut frame = ObjectWriter::new(&mut out);
    frame.str("type", "claim_rejected");
    frame.object("payload", |payload| {
        payload.str("claimId", &id);
        payload.str("reason", &error.code);
        payload.str("message", &error.message);
    });
    frame.end();
    Some(out)
}

fn write_target(payload: &mut ObjectWriter<'_>, detail: &Detail, part: &Part, row: &str) {
    payload.object("target", |target| {
        target.str("entityType", &detail.entity_type);
        target.str("entityId", row);
        write_parts(target, detail, part);
    });
}

/// Who holds the row, for those who do not.
pub(super) fn write_holder(payload: &mut ObjectWriter<'_>, holder: &Claimed<'_>) {
    payload.str("heldBy", &holder.claim.holder.id);
    payload.str("heldByClaimId", &holder.claim.id);
    payload.u64("heldByExpiresAt", holder.expires_at);
    write_summary(payload.key("heldByClaim"), holder);
}

/// `claim_queue` (8.12). `model` is the model's name on the wire.
pub(super) fn queue(model: &str, row: &str, waiting: &[Claimed<'_>]) -> String {
    let mut out = String::new();
    let mut frame = ObjectWriter::new(&mut out);
    frame.str("type", "claim_queue");
    frame.object("payload", |payload| {
        payload.object("target", |target| {
            target.str("type", model);
            target.str("id", row);
        });
        write_array(payload.key("queue"), waiting.iter().enumerate(), |out, (position, claimed)| {
            write_model_claim(out, claimed, Some(position), ("target", "type"));
        });
    });
    frame.end();
    out
}

/// Reads the order of a waiting line: ids of holder and claim.
pub(super) fn read_order(value: Value<'_>) -> Option<Vec<(Cow<'_, str>, Cow<'_, str>)>> {
    let list = value.get("order").filter(|order| order.kind == Kind::Array)?;
    let mut order = Vec::new();
    for item in list.elements().take(super::CLAIM_LINE_MAX) {
        let id = item.get_str("claimId").or_else(|| item.get_str("id"))?;
        order.push((item.get_str("heldBy")?, id));
    }
    Some(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_are_seconds_or_texts_and_have_limits() {
        for (text, ms) in [
            ("30", Some(30_000)),
            (r#""30s""#, Some(30_000)),
            (r#""1.5m""#, Some(90_000)),
            (r#""2500ms""#, Some(2500)),
            (r#""1h""#, Some(CLAIM_TTL_MAX_MS)),
            ("0.001", Some(CLAIM_TTL_MIN_MS)),
            ("1e300", Some(CLAIM_TTL_MAX_MS)),
            ("0", None),
            ("-1", None),
            (r#""soon""#, None),
            (r#""infs""#, None),
            (r#""""#, None),
            ("[]", None),
        ] {
            let read = read_ttl(Value::parse(text).unwrap());
            assert_eq!(read.as_ref().ok().copied(), ms, "{text}: {read:?}");
        }
    }
}
