//! The application's models, read from schema JSON (protocol.md, appendix B).

use std::borrow::Cow;

use super::error::Error;
use super::fold::fold_case;
use super::id::ModelIndex;
use super::json::{Kind, Value};
use crate::core::text::{concat, split};

/// Version of the schema JSON that is understood.
const VERSION: u64 = 3;
/// Most models a schema may declare.
pub const MODELS_MAX: usize = 1000;

/// Fields that every row has besides those declared (protocol.md section 1). Clients never send them.
pub const BASE_FIELDS: [&str; 6] = ["id", "createdAt", "updatedAt", "organizationId", "createdBy", "archivedAt"];

/// When a model's rows are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// With the bootstrap.
    Instant,
    /// On demand (`lazy` and `manual` are treated alike).
    OnDemand,
}

/// How two models hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// The foreign key is here.
    BelongsTo,
    /// The foreign key is on many rows of the target.
    HasMany,
    /// The foreign key is on one row of the target.
    HasOne,
}

/// A declared relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: RelationKind,
    /// The target's schema key.
    pub target: String,
    /// The field that holds the id: of this model for `BelongsTo`, of the target otherwise.
    pub foreign_key: String,
    /// Ignored when creates are put parent-first.
    pub defer: bool,
    /// For the server: the row inherits its parent's groups.
    pub parent: bool,
    /// For the server: a foreign key that names no row is refused.
    pub fk: bool,
}

/// A declared field. What is marked so only [`Schema::parse_all`] reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name in rows.
    pub name: String,
    /// Its column in queries: as declared, else the name in snake case.
    pub column: String,
    /// For the server: whether a row may lack it.
    pub optional: bool,
    /// For the server: its declared type, `string`, `number`, `boolean`, `date`, `enum` or `json`.
    pub kind: String,
    /// For the server: the values that an `enum` may have; empty means any.
    pub enum_values: Vec<String>,
}

/// Groups taken from a field of a row or an identity: `kind:value`, one per value when `multi`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// The group's kind.
    pub kind: String,
    /// Where the value comes from.
    pub field: String,
    /// Whether the field is a list.
    pub multi: bool,
}

/// A membership model: its rows give a subject access to a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants {
    /// Name of the `belongsTo` relation to who gains access.
    pub subject: String,
    /// Name of the `belongsTo` relation to what it gains access to.
    pub scope: String,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Schema key, the application's name for it.
    pub key: String,
    /// The name on the wire.
    pub typename: String,
    /// The name in commit operations of typed writes: the typename without its first `Model`, in lower case.
    pub commit_name: String,
    /// When its rows are loaded.
    pub load: Load,
    /// Declared fields.
    pub fields: Vec<Field>,
    /// Declared relations.
    pub relations: Vec<Relation>,
    /// The kind of the groups that its rows form, when it is a scope root.
    pub scope: Option<String>,
    /// For the server: set on membership models.
    pub grants: Option<Grants>,
    /// For the server: extra groups of a row.
    pub entity_roles: Vec<Role>,
    /// Fields without which a row is skipped.
    pub required_fields: Vec<String>,
    /// For the server: false for models that nobody writes through the protocol.
    pub mutable: bool,
}

impl Model {
    /// The field of that name, base fields excluded.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The relation of that name.
    pub fn relation(&self, name: &str) -> Option<&Relation> {
        self.relations.iter().find(|relation| relation.name == name)
    }

    /// The row field behind a query column; a field name is accepted as well.
    pub fn field_of_column<'a>(&'a self, column: &str) -> Option<&'a str> {
        let declared = self.fields.iter().find(|field| field.column == column || field.name == column);
        declared
            .map(|field| field.name.as_str())
            .or_else(|| BASE_FIELDS.into_iter().find(|base| *base == column || snake_case(base) == column))
    }

    /// The query column of a row field (protocol.md section 1).
    pub fn column_of_field(&self, name: &str) -> String {
        self.field(name).map_or_else(|| snake_case(name), |field| field.column.clone())
    }
}

/// All models of an application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// In declaration order.
    pub models: Vec<Model>,
    /// For the server: which groups an identity belongs to.
    pub identity_roles: Vec<Role>,
    /// Tells schemas apart (FNV-1a of the text): rows stored under another are loaded again.
    pub fingerprint: u64,
}

impl Schema {
    /// Reads of schema JSON what a client needs. The rest keeps its default: the client's package has no use for code
    /// that reads it. Nor does it look again for what `defineSchema` has refused; [`Schema::parse_all`] does.
    ///
    /// # Errors
    /// `schema_definition_invalid`, naming the model and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let root = Value::parse(text).map_err(|error| invalid("schema", &error.message()))?;
        let mut schema = Self { fingerprint: super::store::fingerprint(text.as_bytes()), ..Self::default() };
        for (key, model) in root.at("models").members() {
            let model = read_model(&key.decode(), model);
            if schema.models.iter().any(|known| known.typename.eq_ignore_ascii_case(&model.typename)) {
                return Err(invalid(&model.key, "two models share a typename"));
            }
            schema.models.push(model);
        }
        if schema.models.len() > MODELS_MAX {
            return Err(invalid("schema", "more than 1000 models"));
        }
        Ok(schema)
    }

    /// Reads schema JSON that nobody has checked, with everything that is marked as the server's.
    ///
    /// # Errors
    /// As [`Schema::parse`].
    pub fn parse_all(text: &str) -> Result<Self, Error> {
        let mut schema = Self::parse(text)?;
        let root = Value::parse(text)?;
        if root.get("v").and_then(Value::as_u64) != Some(VERSION) {
            return Err(invalid("schema", "the version `v` must be 3"));
        }
        if root.at("models").kind != Kind::Object {
            return Err(invalid("schema", "`models` must be an object"));
        }
        for (model, (_, value)) in schema.models.iter().zip(root.at("models").members()) {
            check_model(model, value)?;
            for relation in &model.relations {
                if !schema.models.iter().any(|target| target.key == relation.target) {
                    return Err(invalid(&model.key, &concat(&["relation ", &relation.name, " has an unknown target"])));
                }
            }
        }
        schema.identity_roles = read_roles(root.at("identityRoles"));
        for (model, (_, value)) in schema.models.iter_mut().zip(root.at("models").members()) {
            read_rules(model, value);
        }
        Ok(schema)
    }

    /// The model at `index`.
    pub fn model(&self, index: ModelIndex) -> Option<&Model> {
        self.models.get(usize::from(index.0))
    }

    /// The models with their indices.
    pub fn iter(&self) -> impl Iterator<Item = (ModelIndex, &Model)> {
        self.models.iter().enumerate().map(|(index, model)| (index_of(index), model))
    }

    /// The model with this schema key.
    pub fn by_key(&self, key: &str) -> Option<ModelIndex> {
        self.models.iter().position(|model| model.key == key).map(index_of)
    }

    /// The model with exactly this typename, the name in deltas and bootstraps.
    pub fn by_typename(&self, typename: &str) -> Option<ModelIndex> {
        self.models.iter().position(|model| model.typename == typename).map(index_of)
    }

    /// The model that a sender may mean: key or typename in any case, or the commit name of a typename that contains
    /// `Model` (protocol.md section 1).
    pub fn resolve(&self, name: &str) -> Option<ModelIndex> {
        let exact = self.models.iter().position(|model| model.key == name || model.typename == name);
        let folded_name = fold_case(name);
        let folded = || {
            let same = |text: &str| fold_case(text) == folded_name;
            self.models.iter().position(|model| same(&model.key) || same(&model.typename))
        };
        let cut = || self.models.iter().position(|model| model.commit_name == folded_name);
        exact.or_else(folded).or_else(cut).map(index_of)
    }

    /// For each model its place when creates are put parents first: the longest chain of `belongsTo` relations above it,
    /// cycles and `defer` relations left out (engine.md 2.8).
    pub fn create_depths(&self) -> Vec<u16> {
        let parents = |index: usize| {
            self.models.get(index).into_iter().flat_map(|model| {
                model
                    .relations
                    .iter()
                    .filter(|relation| relation.kind == RelationKind::BelongsTo && !relation.defer)
                    .filter_map(|relation| self.models.iter().position(|target| target.key == relation.target))
            })
        };
        let count = self.models.len();
        // reach[a] holds b when b is above a; models that reach each other form one component and share a depth.
        let mut reach: Vec<Vec<bool>> = vec![vec![false; count]; count];
        for (index, row) in reach.iter_mut().enumerate() {
            let mut open: Vec<usize> = parents(index).collect();
            while let Some(next) = open.pop() {
                if row.get(next) == Some(&false) {
                    row[next] = true;
                    open.extend(parents(next));
                }
            }
        }
        let above = |a: usize, b: usize| reach.get(a).and_then(|row| row.get(b)).copied().unwrap_or(false);
        let mut depths = vec![0_u16; count];
        for _ in 0..count {
            for index in 0..count {
                let mates = |other: usize| other == index || (above(index, other) && above(other, index));
                let deepest = (0..count)
                    .filter(|&mate| mates(mate))
                    .flat_map(&parents)
                    .filter(|&parent| !mates(parent))
                    .filter_map(|parent| depths.get(parent).map(|depth| depth + 1))
                    .max();
                if let (Some(deepest), Some(depth)) = (deepest, depths.get_mut(index)) {
                    *depth = deepest;
                }
            }
        }
        depths
    }
}

fn index_of(position: usize) -> ModelIndex {
    ModelIndex(u16::try_from(position).unwrap_or(u16::MAX))
}

fn commit_name(typename: &str) -> String {
    let (before, after) = split(typename, "Model").unwrap_or((typename, ""));
    fold_case(before) + &fold_case(after)
}

/// `deckId` becomes `deck_id` (protocol.md section 1).
pub fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

fn invalid(model: &str, why: &str) -> Error {
    Error::local("schema_definition_invalid", concat(&[model, ": ", why])).param(model)
}

fn read_model(key: &str, value: Value<'_>) -> Model {
    let mut fields = Vec::new();
    for (name, field) in value.at("fields").members() {
        let name = name.decode().into_owned();
        fields.push(Field {
            column: field.get_string("column").unwrap_or_else(|| snake_case(&name)),
            name,
            optional: false,
            kind: String::new(),
            enum_values: Vec::new(),
        });
    }
    let mut relations = Vec::new();
    for (name, relation) in value.at("relations").members() {
        relations.push(Relation {
            name: name.decode().into_owned(),
            kind: match relation.get_str("type").as_deref() {
                Some("belongsTo") => RelationKind::BelongsTo,
                Some("hasMany") => RelationKind::HasMany,
                _ => RelationKind::HasOne,
            },
            target: relation.get_string("target").unwrap_or_default(),
            foreign_key: relation.get_string("foreignKey").unwrap_or_default(),
            defer: relation.at("options").get_bool("defer").unwrap_or(false),
            parent: false,
            fk: false,
        });
    }
    let typename = value.get_string("typename").unwrap_or_else(|| key.to_owned());
    let scope = value.at("scope");
    Model {
        key: key.to_owned(),
        commit_name: commit_name(&typename),
        typename,
        load: match value.get_str("load").as_deref() {
            Some("lazy" | "manual") => Load::OnDemand,
            _ => Load::Instant,
        },
        fields,
        relations,
        scope: if scope.as_bool() == Some(true) { Some(key.to_owned()) } else { scope.as_str().map(Cow::into_owned) },
        grants: None,
        entity_roles: Vec::new(),
        required_fields: value.get_strings("requiredFields"),
        mutable: true,
    }
}

/// Refuses what [`read_model`] takes for something else.
fn check_model(model: &Model, value: Value<'_>) -> Result<(), Error> {
    if value.kind != Kind::Object {
        return Err(invalid(&model.key, "a model must be an object"));
    }
    match value.get_str("load").as_deref() {
        None | Some("instant" | "lazy" | "manual") => {}
        Some(other) => {
            return Err(invalid(&model.key, &concat(&["load must be instant, lazy or manual, not ", other])));
        }
    }
    for (_, relation) in value.at("relations").members() {
        if !matches!(relation.get_str("type").as_deref(), Some("belongsTo" | "hasMany" | "hasOne")) {
            return Err(invalid(&model.key, "a relation is belongsTo, hasMany or hasOne"));
        }
    }
    Ok(())
}

/// What only the server needs of a model that [`read_model`] has read.
fn read_rules(model: &mut Model, value: Value<'_>) {
    for (field, (_, value)) in model.fields.iter_mut().zip(value.at("fields").members()) {
        field.optional = value.get_bool("isOptional").unwrap_or(false);
        field.kind = value.get_string("type").unwrap_or_else(|| "json".to_owned());
        field.enum_values = value.get_strings("enumValues");
    }
    for (relation, (_, value)) in model.relations.iter_mut().zip(value.at("relations").members()) {
        relation.parent = value.at("options").get_bool("parent").unwrap_or(false);
        relation.fk = value.at("options").get_bool("fk").unwrap_or(false);
    }
    let grants = value.at("grants");
    model.grants = (grants.get_string("subject").zip(grants.get_string("scope")))
        .map(|(subject, scope)| Grants { subject, scope });
    model.entity_roles = read_roles(value.at("entityRoles"));
    model.mutable = value.get_bool("mutable").unwrap_or(true);
}

fn read_roles(list: Value<'_>) -> Vec<Role> {
    let roles = list.elements().filter_map(|role| {
        let source = role.get("source")?;
        Some(Role {
            kind: role.get_string("kind")?,
            field: source.get_string("field")?,
            multi: source.get_bool("multi").unwrap_or(false),
        })
    });
    roles.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"{"v":3,"models":{
        "tasks":{"fields":{"title":{"type":"string"},"deckId":{"type":"string","column":"deck"},"ownerName":{"type":"string"}},
                 "relations":{"deck":{"type":"belongsTo","target":"decks","foreignKey":"deckId"}},"typename":"Task"},
        "decks":{"fields":{},"relations":{"tasks":{"type":"hasMany","target":"tasks","foreignKey":"deckId"}},"typename":"SlideDeck","load":"lazy","scope":"deck"},
        "runs":{"fields":{},"relations":{"task":{"type":"belongsTo","target":"tasks","foreignKey":"taskId"}},"typename":"ModelRun"}},
        "identityRoles":[{"kind":"team","source":{"field":"teamIds","multi":true}}]}"#;

    #[test]
    fn names_resolve_as_the_protocol_says() {
        let schema = Schema::parse(SAMPLE).unwrap();
        for (name, index) in
            [("tasks", 0), ("Task", 0), ("task", 0), ("slidedeck", 1), ("DECKS", 1), ("run", 2), ("modelrun", 2)]
        {
            assert_eq!(schema.resolve(name), Some(ModelIndex(index)), "{name}");
        }
        assert_eq!(schema.resolve("nothing"), None);
        assert_eq!(schema.by_typename("task"), None);
        let task = &schema.models[0];
        assert_eq!(task.column_of_field("ownerName"), "owner_name");
        assert_eq!(task.field_of_column("deck"), Some("deckId"));
        assert_eq!(task.field_of_column("created_at"), Some("createdAt"));
        assert_eq!(schema.models[2].commit_name, "run");
    }

    #[test]
    fn parents_come_before_children() {
        assert_eq!(Schema::parse(SAMPLE).unwrap().create_depths(), [1, 0, 2]);
        let cycle = r#"{"v":3,"models":{
            "a":{"fields":{},"relations":{"b":{"type":"belongsTo","target":"b","foreignKey":"bId"}}},
            "b":{"fields":{},"relations":{"a":{"type":"belongsTo","target":"a","foreignKey":"aId"},"c":{"type":"belongsTo","target":"c","foreignKey":"cId"}}},
            "c":{"fields":{},"relations":{}}}}"#;
        assert_eq!(Schema::parse(cycle).unwrap().create_depths(), [1, 1, 0]);
    }

    #[test]
    fn bad_schemas_say_what_is_wrong() {
        for (text, word) in [
            ("{", "malformed"),
            (r#"{"v":2,"models":{}}"#, "version"),
            (r#"{"v":3}"#, "models"),
            (r#"{"v":3,"models":{"a":{"load":"never"}}}"#, "load"),
            (r#"{"v":3,"models":{"a":{"typename":"X"},"b":{"typename":"x"}}}"#, "typename"),
            (
                r#"{"v":3,"models":{"a":{"relations":{"r":{"type":"belongsTo","target":"z","foreignKey":"zId"}}}}}"#,
                "target",
            ),
        ] {
            let error = Schema::parse_all(text).unwrap_err();
            assert_eq!(error.code, "schema_definition_invalid");
            assert!(error.message.contains(word), "{}", error.message);
        }
    }
}
