//! Which groups a row is in, and which rows a set of groups shows (protocol.md sections 1, 7.1, 10.8).
//!
//! Every row is in its organization's group `org:<organization>` and in its own one, `<scope kind>:<id>` or
//! `<schema key>:<id>`. Those two are never stored. What is stored per row are its *further* groups: those of its parents,
//! and those taken from its fields.

use std::collections::BTreeSet;
use std::sync::Arc;

use ablo_wasm::core::json::{Kind, Value};
use ablo_wasm::core::schema::{Model, RelationKind, Role};

use super::catalog::{Catalog, Entry, Slot};
use super::participant::{Participant, Text};

/// The group that is every row's, besides `org:<organization>`.
const DEFAULT_GROUP: &str = "default";
/// Kinds of group that no row forms.
const RESERVED_KINDS: [&str; 3] = ["org", "user", "project"];
/// Most groups in one set.
pub(super) const GROUPS_MAX: usize = 1000;
/// Longest group.
pub(super) const GROUP_LEN_MAX: usize = 512;

/// A row's further groups, sorted.
pub(super) type Extra = Arc<[Text]>;

/// What a row's text says about where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Routing {
    /// The row's further groups.
    pub extra: Extra,
    /// Ids of the rows that hand their groups down to it, sorted.
    pub parents: Extra,
}

impl Default for Routing {
    fn default() -> Self {
        Self { extra: Arc::from([]), parents: Arc::from([]) }
    }
}

/// The group of all rows of an organization.
pub(super) fn anchor(organization: &str) -> String {
    format!("org:{organization}")
}

/// A set of groups, ready to be asked about rows.
#[derive(Clone, Debug)]
pub(super) struct View {
    groups: BTreeSet<String>,
    /// Holds the organization's own group, so every row of it.
    all: bool,
    /// Without a schema nobody knows which word comes before the id, so any unreserved one does.
    open_ids: Option<BTreeSet<String>>,
    /// What the credential shows, when that is not everything. A row's own group was granted because the row could be
    /// seen; when the row leaves sight, the group must not keep it there.
    limit: Option<Box<Self>>,
}

impl View {
    pub(super) fn new(groups: BTreeSet<String>, organization: &str, catalog: &Catalog) -> Self {
        let all = groups.contains(DEFAULT_GROUP) || groups.contains(&anchor(organization));
        let open_ids = catalog.is_open().then(|| {
            let split = groups.iter().filter_map(|group| group.split_once(':'));
            split.filter(|(kind, _)| !RESERVED_KINDS.contains(kind)).map(|(_, id)| id.to_owned()).collect()
        });
        Self { groups, all, open_ids, limit: None }
    }

    /// What a set of groups shows of what the credential may read.
    pub(super) fn within(groups: BTreeSet<String>, participant: &Participant, catalog: &Catalog) -> Self {
        let credential = Self::of(participant, catalog);
        let limit = (!credential.all).then(|| Box::new(credential));
        Self { limit, ..Self::new(groups, &participant.organization, catalog) }
    }

    /// Everything the credential itself may read.
    pub(super) fn of(participant: &Participant, catalog: &Catalog) -> Self {
        Self::new(participant.sync_groups.clone(), &participant.organization, catalog)
    }

    /// Whether it shows every row of the organization.
    pub(super) fn shows_all(&self) -> bool {
        self.all && self.limit.is_none()
    }

    /// Whether it shows this row.
    pub(super) fn shows(&self, entry: &Entry, id: &str, extra: &[Text]) -> bool {
        let by_group = self.all
            || extra.iter().any(|group| self.groups.contains(&**group))
            || self.open_ids.as_ref().is_some_and(|ids| ids.contains(id))
            || self.groups.contains(&entry.group(id))
            || (entry.scope.is_some() && self.groups.contains(&format!("{}:{id}", entry.key)));
        by_group && self.limit.as_ref().is_none_or(|limit| limit.shows(entry, id, extra))
    }

    /// Whether it shows what somebody calls by a name that is no model's.
    pub(super) fn shows_name(&self, name: &str, id: &str) -> bool {
        (self.all || self.groups.contains(&format!("{name}:{id}")))
            && self.limit.as_ref().is_none_or(|limit| limit.shows_name(name, id))
    }
}

/// Whether a participant may read a group: one of its credential, or that of a row it may see. A group whose row does not
/// exist yet (a create with an inline claim asks for it first, protocol.md 11.2) is granted to who sees everything.
pub(super) fn is_allowed(
    participant: &Participant,
    view: &View,
    catalog: &Catalog,
    group: &str,
    row: impl Fn(Slot, &str) -> Option<Extra>,
    owner: impl Fn(&str) -> Option<Slot>,
) -> bool {
    if participant.sync_groups.contains(group) {
        return true;
    }
    let Some((kind, id)) = group.split_once(':') else { return false };
    if id.is_empty() || RESERVED_KINDS.contains(&kind) {
        return false;
    }
    if catalog.is_open() {
        return match owner(id) {
            Some(slot) => row(slot, id).is_some_and(|extra| view.shows(catalog.entry(slot), id, &extra)),
            None => view.shows_all(),
        };
    }
    catalog.of_group_kind(kind).any(|slot| match row(slot, id) {
        Some(extra) => view.shows(catalog.entry(slot), id, &extra),
        None => view.shows_all(),
    })
}

/// Whether rows of this model can have further groups at all.
pub(super) fn has_extra(model: &Model) -> bool {
    !model.entity_roles.is_empty() || parents(model).next().is_some()
}

/// The relations that hand groups down: field with the parent's id, parent's schema key.
fn parents(model: &Model) -> impl Iterator<Item = (&str, &str)> {
    model
        .relations
        .iter()
        .filter(|relation| relation.parent && relation.kind == RelationKind::BelongsTo)
        .map(|relation| (relation.foreign_key.as_str(), relation.target.as_str()))
}

/// Where a row belongs. `parent` looks up the further groups of another row.
pub(super) fn route(
    catalog: &Catalog,
    slot: Slot,
    text: &str,
    parent: impl Fn(Slot, &str) -> Option<Extra>,
) -> Routing {
    let Some(model) = catalog.model(slot).filter(|model| has_extra(model)) else { return Routing::default() };
    let Ok(row) = Value::parse(text) else { return Routing::default() };
    let mut groups: BTreeSet<Text> = BTreeSet::new();
    let mut ids: BTreeSet<Text> = BTreeSet::new();
    for role in &model.entity_roles {
        role_groups(role, row, &mut groups);
    }
    for (field, target) in parents(model) {
        let Some(id) = row.get_str(field).filter(|id| !id.is_empty()) else { continue };
        let Some(target) = catalog.of_key(target) else { continue };
        groups.insert(catalog.entry(target).group(&id).into());
        groups.extend(parent(target, &id).iter().flat_map(|extra| extra.iter().cloned()));
        ids.insert(id.as_ref().into());
    }
    Routing { extra: groups.into_iter().collect(), parents: ids.into_iter().collect() }
}

fn role_groups(role: &Role, row: Value<'_>, groups: &mut BTreeSet<Text>) {
    let Some(value) = row.get(&role.field) else { return };
    if role.multi {
        let texts = value.elements().filter_map(Value::as_str).filter(|text| !text.is_empty());
        groups.extend(texts.map(|text| Text::from(format!("{}:{text}", role.kind))));
        return;
    }
    let scalar = match value.kind {
        Kind::String => value.as_str().filter(|text| !text.is_empty()).map(std::borrow::Cow::into_owned),
        Kind::Number => value.as_f64().filter(|number| *number != 0.0).map(|_| value.raw.to_owned()),
        Kind::Bool => value.as_bool().filter(|flag| *flag).map(|_| "true".to_owned()),
        Kind::Null | Kind::Array | Kind::Object => None,
    };
    groups.extend(scalar.map(|text| Text::from(format!("{}:{text}", role.kind))));
}

/// Reads a list of groups as a client sends it.
///
/// `None` when it is no list of non-empty strings within the limits.
pub(super) fn read_groups(value: Option<Value<'_>>) -> Option<Vec<String>> {
    let list = value.filter(|list| list.kind == Kind::Array)?;
    let mut groups = Vec::new();
    for item in list.elements() {
        let group = item.as_str().filter(|group| !group.is_empty() && group.len() <= GROUP_LEN_MAX)?;
        if groups.len() == GROUPS_MAX {
            return None;
        }
        groups.push(group.into_owned());
    }
    Some(groups)
}
