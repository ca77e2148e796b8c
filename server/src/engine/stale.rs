//! Staleness: what a write was based on, and whether that has changed (protocol.md 10.3, 10.4, 10.6).
//!
//! A premise is a row, some fields of one, or a group, as of some id. It is in conflict with every later change that
//! touches it, except the author's own: those of its connection, and those it made to a row since it got the lease on it.
//! All premises of a commit are compared in one pass over the history.

use std::collections::{BTreeMap, BTreeSet};

use ablo_wasm::core::error::Error;
use ablo_wasm::core::id::SyncId;
use ablo_wasm::core::json::{Kind, ObjectWriter, Value};
use ablo_wasm::core::wire::{OnStale, OpKind};

use super::Engine;
use super::catalog::Slot;
use super::claim::{Place, Who};
use super::commit::Step;
use super::group::{GROUP_LEN_MAX, View};
use super::history::Change;
use super::participant::{Participant, Text, scope_denied};
use super::session::ConnectionId;
use super::storage::Verb;
use super::tenant::Row;

/// Most read dependencies of a commit.
pub const READS_MAX: usize = 1000;
/// Most of them that are groups: each is compared with every change.
pub const GROUP_READS_MAX: usize = 16;
/// Most fields that one of them names.
const FIELDS_MAX: usize = 1000;
/// Who made a change that history no longer has.
const UNKNOWN_WRITER: (&str, &str) = ("system", "unknown");

/// Who wants to write.
pub(super) struct Author<'a> {
    pub who: &'a Who,
    pub participant: &'a Participant,
    /// What its credential shows.
    pub view: &'a View,
    /// The connection that the commit came on.
    pub connection: Option<ConnectionId>,
}

/// What must not have changed.
enum Subject {
    Row(Slot, Text),
    /// A group, and the view of just that.
    Group(Text, View),
}

/// Something that a commit is based on.
pub(super) struct Premise {
    subject: Subject,
    /// The operation that writes it; `None` for a read dependency.
    pub operation: Option<usize>,
    pub read_at: SyncId,
    /// `None`: all fields.
    fields: Option<Vec<Text>>,
    pub mode: OnStale,
    /// The row or group, in the sender's words.
    pub said: String,
}

/// What the author sees of a row now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    Shown,
    Hidden,
    Gone,
}

/// How a premise has failed.
#[derive(Debug, Default)]
pub(super) struct Conflict {
    /// The newest change of the row or group: the mark to try again with.
    observed: SyncId,
    /// The fields in which it changed, where that is known.
    fields: BTreeSet<Text>,
    /// It may have changed in any field.
    any: bool,
    /// Who made the newest change that counts, unless history no longer knows.
    writer: Option<Text>,
    /// The author may be told of it: it sees the row, or saw one of the changes.
    shown: bool,
}

/// What an operation is based on, when it says so. `readAt: 0` guards nothing (9.7).
pub(super) fn of_operation(index: usize, step: &Step<'_>) -> Option<Premise> {
    let operation = step.operation;
    let read_at = operation.read_at.filter(|mark| *mark > SyncId(0))?;
    let fields = match operation.kind {
        OpKind::Update => Some(member_names(operation.input.as_deref().unwrap_or("{}"))),
        OpKind::Archive | OpKind::Unarchive => Some(vec!["archivedAt".into()]),
        OpKind::Create | OpKind::Delete => None,
    };
    Some(Premise {
        subject: Subject::Row(step.slot, step.id.clone()),
        operation: Some(index),
        read_at,
        fields,
        mode: operation.on_stale.unwrap_or(OnStale::Reject),
        said: format!("{}/{:.80}", operation.model, step.id),
    })
}

fn member_names(object: &str) -> Vec<Text> {
    let object = Value::parse(object).ok();
    object.into_iter().flat_map(Value::members).map(|(key, _)| key.decode().into()).collect()
}

/// Whether a change touches these fields.
fn touches(change: &Change, fields: Option<&[Text]>) -> bool {
    match (change.verb, &change.fields, fields) {
        (Verb::Reroute, _, _) => false,
        (Verb::Insert | Verb::Delete, _, _) | (_, None, _) | (_, Some(_), None) => true,
        (_, Some(changed), Some(fields)) => changed.iter().any(|field| fields.contains(field)),
    }
}

impl Conflict {
    /// Takes a change in. They come in order.
    fn add(&mut self, change: &Change) {
        self.shown = true;
        self.observed = change.id;
        self.writer = Some(change.actor.clone());
        match (&change.fields, change.verb) {
            (_, Verb::Insert | Verb::Delete) | (None, _) => self.any = true,
            (Some(changed), _) => self.fields.extend(changed.iter().cloned()),
        }
    }

    /// The fields to name: those that both sides are about.
    fn named(&self, premise: &Premise) -> Vec<Text> {
        match &premise.fields {
            Some(fields) => fields.iter().filter(|field| self.any || self.fields.contains(*field)).cloned().collect(),
            None => self.fields.iter().cloned().collect(),
        }
    }
}

impl Engine {
    /// Reads the read dependencies of a commit.
    ///
    /// # Errors
    /// `invalid_body`, `unknown_model`; `capability_scope_denied` for groups that the sender may not read: whether they
    /// have changed is not its business.
    pub(super) fn read_dependencies(&self, author: &Author<'_>, reads: Value<'_>) -> Result<Vec<Premise>, Error> {
        let wrong = |why: &str| Err(Error::wire("invalid_body", why).param("reads"));
        if reads.kind != Kind::Array {
            return wrong("reads must be a list");
        }
        if reads.elements().nth(READS_MAX).is_some() {
            return wrong(&format!("more than {READS_MAX} read dependencies; name groups instead of rows"));
        }
        let mut premises = Vec::new();
        let mut groups = 0;
        for read in reads.elements() {
            let given = |name: &str| read.get(name).filter(|value| !value.is_null());
            let mode = match given("onStale").map(Value::as_str) {
                None => OnStale::Reject,
                Some(mode) => match mode.as_deref().and_then(OnStale::parse) {
                    Some(mode) => mode,
                    None => return wrong("onStale of a read dependency must be reject, overwrite or notify"),
                },
            };
            let Some(read_at) = read.get_u64("readAt").map(SyncId) else {
                return wrong("a read dependency needs readAt, a sync id");
            };
            let (subject, fields, said) = if let Some(group) = given("group") {
                groups += 1;
                let Some(group) = group.as_str().filter(|group| !group.is_empty() && group.len() <= GROUP_LEN_MAX)
                else {
                    return wrong("the group of a read dependency must be a short string");
                };
                if groups > GROUP_READS_MAX {
                    return wrong(&format!("more than {GROUP_READS_MAX} groups in the read dependencies"));
                }
                if !self.may_read(author.participant, author.view, &group) {
                    let why = format!("{group:.80} is outside this key's scope");
                    return Err(scope_denied(why, "subscribe", &[&group]));
                }
                let set = BTreeSet::from([group.clone().into_owned()]);
                let view = View::within(set, author.participant, &self.catalog);
                (Subject::Group(group.as_ref().into(), view), None, group.into_owned())
            } else {
                let (Some(model), Some(id)) = (read.get_str("model"), read.get_str("id")) else {
                    return wrong("a read dependency needs a model and an id, or a group");
                };
                // Without a schema, a model that nobody has written has no rows that could have changed.
                let Some(slot) = self.known_model(&model)? else { continue };
                let fields = match given("fields") {
                    None => None,
                    Some(list) if list.kind == Kind::Array && list.elements().nth(FIELDS_MAX).is_none() => {
                        Some(list.elements().filter_map(Value::as_str).map(|field| Text::from(&*field)).collect())
                    }
                    Some(_) => return wrong("fields of a read dependency must be a list of names"),
                };
                (Subject::Row(slot, id.as_ref().into()), fields, format!("{model}/{id:.80}"))
            };
            if read_at > SyncId(0) {
                premises.push(Premise { subject, operation: None, read_at, fields, mode, said });
            }
        }
        Ok(premises)
    }

    /// The premises that no longer hold, by index, with what has happened. Those that overwrite are not looked at.
    pub(super) fn conflicts(&self, author: &Author<'_>, premises: &[Premise]) -> Vec<(usize, Conflict)> {
        let mut found: BTreeMap<usize, Conflict> = BTreeMap::new();
        let mut rows: BTreeMap<(Slot, &Text), Vec<usize>> = BTreeMap::new();
        let mut groups: Vec<(usize, &View)> = Vec::new();
        let mut sights: BTreeMap<usize, Sight> = BTreeMap::new();
        let mut since = self.head;
        for (at, premise) in premises.iter().enumerate().filter(|(_, premise)| premise.mode != OnStale::Overwrite) {
            match &premise.subject {
                Subject::Row(slot, id) => {
                    let row = self.row(author, *slot, id);
                    let moved = row.is_none_or(|row| row.last > premise.read_at);
                    if !moved {
                        continue;
                    }
                    sights.insert(at, self.sight(author, *slot, id));
                    rows.entry((*slot, id)).or_default().push(at);
                }
                Subject::Group(_, view) => groups.push((at, view)),
            }
            since = since.min(premise.read_at);
        }
        let floor = self.history.floor();
        for change in self.history.after(since).filter(|change| *change.organization == *author.who.0) {
            let mut concerned: Vec<usize> = Vec::new();
            for at in rows.get(&(change.slot, &change.row)).into_iter().flatten() {
                if touches(change, premises[*at].fields.as_deref()) {
                    concerned.push(*at);
                }
            }
            for (at, view) in &groups {
                let (before, after) = change.shown(view, &self.catalog);
                if before != after || (after && change.verb != Verb::Reroute) {
                    concerned.push(*at);
                }
            }
            let is_seen = self.is_seen(author, change);
            concerned.retain(|at| {
                let counts = is_seen || sights.contains_key(at);
                premises[*at].read_at < change.id && counts
            });
            if concerned.is_empty() || self.is_own(author, change) {
                continue;
            }
            for at in concerned {
                let conflict = found.entry(at).or_default();
                if is_seen || sights.get(&at) == Some(&Sight::Shown) {
                    conflict.add(change);
                }
            }
        }
        // What history no longer tells counts as changed: a guard that cannot be checked must not pass.
        for (at, premise) in premises.iter().enumerate() {
            let lost = match &premise.subject {
                Subject::Row(slot, id) => {
                    // A create of what is not there is not stale for want of history.
                    let concerns = premise.operation.is_none() || self.row(author, *slot, id).is_some();
                    concerns && rows.get(&(*slot, id)).is_some_and(|moved| moved.contains(&at))
                }
                Subject::Group(..) => premise.mode != OnStale::Overwrite,
            };
            if lost && premise.read_at < floor {
                let shown = sights.get(&at) != Some(&Sight::Hidden);
                found.entry(at).or_insert(Conflict { observed: floor, shown, ..Conflict::default() }).any = true;
            }
        }
        for (at, conflict) in &mut found {
            if let Subject::Row(slot, id) = &premises[*at].subject {
                let last = self.row(author, *slot, id).map_or(SyncId(0), |row| row.last);
                conflict.observed = conflict.observed.max(last);
            }
        }
        found.into_iter().collect()
    }

    /// Nobody is told what became of a row out of its sight: a write that is based on one is refused for that.
    pub(super) fn check_sight(
        &self,
        author: &Author<'_>,
        premises: &[Premise],
        conflicts: &[(usize, Conflict)],
    ) -> Result<(), Error> {
        let conflicts: BTreeMap<usize, &Conflict> = conflicts.iter().map(|(at, conflict)| (*at, conflict)).collect();
        for (at, premise) in premises.iter().enumerate() {
            let Subject::Row(slot, id) = &premise.subject else { continue };
            let dark = match conflicts.get(&at) {
                Some(conflict) => !conflict.shown,
                // A read dependency on it guards nothing.
                None => premise.operation.is_none() && self.sight(author, *slot, id) == Sight::Hidden,
            };
            if dark {
                let why = format!("{} is outside this key's groups", premise.said);
                let group = self.catalog.entry(*slot).group(id);
                let error = scope_denied(why, "subscribe", &[&group]);
                return Err(match premise.operation {
                    None => error,
                    Some(index) => error.param(format!("operations[{index}]")),
                });
            }
        }
        Ok(())
    }

    fn sight(&self, author: &Author<'_>, slot: Slot, id: &str) -> Sight {
        match self.row(author, slot, id) {
            None => Sight::Gone,
            Some(row) if author.view.shows(self.catalog.entry(slot), id, &row.extra) => Sight::Shown,
            Some(_) => Sight::Hidden,
        }
    }

    fn row(&self, author: &Author<'_>, slot: Slot, id: &str) -> Option<&Row> {
        self.tenant(&author.who.0)?.get(slot, id)
    }

    /// Whether a change is the author's own and it knows (10.3): made on the same connection, or to a row since the
    /// author got the lease on it.
    fn is_own(&self, author: &Author<'_>, change: &Change) -> bool {
        if author.connection.is_some() && change.connection == author.connection {
            return true;
        }
        if *change.actor != *author.who.1 {
            return false;
        }
        let model = self.catalog.entry(change.slot).stored.clone();
        let place = Place { organization: author.who.0.clone(), model, row: change.row.clone() };
        let mut held = self.claims.held(&place).filter(|claim| claim.who == *author.who);
        held.any(|claim| claim.grant.is_some_and(|grant| change.id > grant.head))
    }

    fn is_seen(&self, author: &Author<'_>, change: &Change) -> bool {
        let (before, after) = change.shown(author.view, &self.catalog);
        before || after
    }

    /// Writes the notification of a conflict (10.6).
    pub(super) fn write_notification(
        &self,
        author: &Author<'_>,
        premise: &Premise,
        conflict: &Conflict,
        out: &mut String,
    ) {
        let mut object = ObjectWriter::new(out);
        object.str("object", "stale_notification");
        match &premise.subject {
            Subject::Row(slot, id) => {
                let entry = self.catalog.entry(*slot);
                object.str("model", &entry.key);
                object.str("id", id);
                let row = self.row(author, *slot, id).filter(|row| author.view.shows(entry, id, &row.extra));
                let fields = conflict.named(premise);
                object.strs("conflictingFields", &fields);
                write_current(&mut object, row, &fields);
            }
            Subject::Group(group, _) => {
                object.str("model", group);
                object.str("id", group);
                object.str("group", group);
                object.raw("conflictingFields", "[]");
                object.raw("currentValues", "{}");
            }
        }
        object.u64("readAt", premise.read_at.0);
        object.u64("observedSyncId", conflict.observed.0);
        let (kind, id) = conflict.writer.as_deref().and_then(|writer| writer.split_once(':')).unwrap_or(UNKNOWN_WRITER);
        object.object("writtenBy", |writer| {
            writer.str("kind", kind);
            writer.str("id", id);
        });
        object.end();
    }
}

/// The values as they are now: of the fields in conflict, or of all where those are not known. Nothing of a row that is
/// gone.
fn write_current(object: &mut ObjectWriter<'_>, row: Option<&Row>, fields: &[Text]) {
    match row {
        None => object.raw("currentValues", "{}"),
        Some(row) if fields.is_empty() => object.raw("currentValues", &row.text),
        Some(row) => {
            let mut seen: BTreeSet<&Text> = BTreeSet::new();
            object.object("currentValues", |values| {
                for field in fields.iter().filter(|field| seen.insert(field)) {
                    values.raw(field, row.get(field).map_or("null", |value| value.raw));
                }
            });
        }
    }
}
