//! What a local read asks for, and how its options are read.
//!
//! Deliberately without evaluation: [`super::column`] compares cells, [`super::view`] keeps results.

use crate::core::error::Error;
use crate::core::filter::{CLAUSES_MAX, Clause, Literal, Operator};
use crate::core::json::{Kind, Value};
use crate::core::text::{concat, digits};

/// Most fields in one `orderBy`.
pub const ORDER_MAX: usize = 8;

/// Which way a field is sorted. Null and missing come last in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// Which rows a read sees. A row is archived when its `archivedAt` is there and not null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Rows that are not archived.
    #[default]
    Live,
    /// Rows that are.
    Archived,
    /// Both.
    All,
}

/// A local read: conditions joined by AND, an order, a window.
///
/// Numbers sort before texts, texts before booleans, booleans before objects and arrays (which are all equal), null and
/// missing last whatever the direction. Texts compare by code point. Rows that compare equal keep the order in which
/// they came to the pool, and without an order that is the order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// The conditions.
    pub clauses: Vec<Clause>,
    /// Fields to sort by, the most important first.
    pub order: Vec<(String, Direction)>,
    /// How many rows are passed over.
    pub offset: usize,
    /// How many are returned at most. 0 is no limit either.
    pub limit: Option<usize>,
    /// Live rows, archived ones, or both.
    pub scope: Scope,
}

impl Query {
    /// Reads the options of a local read: `where` (an object of fields and scalars, or a list of clauses), `orderBy`,
    /// `offset`, `limit` (0: none) and `state`.
    ///
    /// # Errors
    /// `invalid_options`, with the path of what is wrong as its `param`.
    pub fn parse(json: Value<'_>) -> Result<Self, Error> {
        if json.kind != Kind::Object {
            return Err(invalid("options", "options are an object"));
        }
        let mut query = Self::default();
        for (key, value) in json.members() {
            match key.decode().as_ref() {
                "where" => query.clauses = read_where(value)?,
                "orderBy" => query.order = read_order(value)?,
                "offset" => query.offset = read_count(value, "offset")?,
                "limit" => query.limit = Some(read_count(value, "limit")?).filter(|&limit| limit > 0),
                "state" => query.scope = read_scope(value)?,
                other => return Err(invalid(other, "unknown option")),
            }
        }
        Ok(query)
    }

    /// The first place behind the window.
    pub(super) fn end(&self) -> usize {
        let limit = self.limit.filter(|&limit| limit > 0);
        limit.map_or(usize::MAX, |limit| self.offset.saturating_add(limit))
    }
}

fn invalid(param: &str, why: &str) -> Error {
    Error::local("invalid_options", concat(&[param, ": ", why])).param(param)
}

fn path(parent: &str, child: &str) -> String {
    concat(&[parent, ".", child])
}

fn read_where(value: Value<'_>) -> Result<Vec<Clause>, Error> {
    let mut clauses: Vec<Clause> = Vec::new();
    match value.kind {
        Kind::Object => {
            for (field, value) in value.members() {
                let field = field.decode();
                let Some(operand) = Literal::parse(value) else {
                    return Err(invalid(&path("where", &field), "a field equals a text, a number, a boolean or null"));
                };
                clauses.push(Clause { field: field.into_owned(), operator: Operator::Eq, operands: vec![operand] });
            }
        }
        Kind::Array => {
            for clause in value.elements() {
                let index = clauses.len() as u64;
                let clause = Clause::parse(clause);
                clauses.push(clause.map_err(|error| invalid(&path("where", &digits(index)), &error.message))?);
            }
        }
        Kind::Null | Kind::Bool | Kind::Number | Kind::String => {
            return Err(invalid("where", "conditions are an object or a list"));
        }
    }
    if clauses.len() > CLAUSES_MAX {
        return Err(invalid("where", "too many conditions"));
    }
    Ok(clauses)
}

fn read_order(value: Value<'_>) -> Result<Vec<(String, Direction)>, Error> {
    if value.kind != Kind::Object {
        return Err(invalid("orderBy", "an order is an object of fields"));
    }
    let mut order = Vec::new();
    for (field, value) in value.members() {
        let field = field.decode().into_owned();
        let direction = match value.as_str().as_deref() {
            Some("asc") => Direction::Ascending,
            Some("desc") => Direction::Descending,
            _ => return Err(invalid(&path("orderBy", &field), "a direction is asc or desc")),
        };
        order.push((field, direction));
    }
    if order.len() > ORDER_MAX {
        return Err(invalid("orderBy", "too many fields"));
    }
    Ok(order)
}

fn read_count(value: Value<'_>, param: &str) -> Result<usize, Error> {
    let count = value.as_u64().ok_or_else(|| invalid(param, "a whole number from 0 on"))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

fn read_scope(value: Value<'_>) -> Result<Scope, Error> {
    match value.as_str().as_deref() {
        Some("live") => Ok(Scope::Live),
        Some("archived") => Ok(Scope::Archived),
        Some("all") => Ok(Scope::All),
        _ => Err(invalid("state", "a state is live, archived or all")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Query, Error> {
        Query::parse(Value::parse(text).unwrap())
    }

    #[test]
    fn reads_all_options() {
        let query = parse(
            r#"{"where":{"state":"open","n":1,"gone":null},"orderBy":{"rank":"desc","title":"asc"},"offset":3,"limit":20,"state":"all"}"#,
        )
        .unwrap();
        assert_eq!(query.clauses.len(), 3);
        assert_eq!(query.clauses[0].operands, [Literal::Text("open".into())]);
        assert_eq!(query.order, [("rank".into(), Direction::Descending), ("title".into(), Direction::Ascending)]);
        assert_eq!((query.offset, query.limit, query.scope), (3, Some(20), Scope::All));
        assert_eq!(parse(r#"{"limit":0}"#).unwrap(), Query::default());
        assert_eq!(parse(r#"{"where":[["a","IN",[1,2]],["b","!=",null]]}"#).unwrap().clauses.len(), 2);
    }

    #[test]
    fn wrong_options_name_themselves() {
        for (text, param) in [
            ("[]", "options"),
            (r#"{"sort":1}"#, "sort"),
            (r#"{"where":1}"#, "where"),
            (r#"{"where":{"a":[1]}}"#, "where.a"),
            (r#"{"where":[["a",1],["a","~",1]]}"#, "where.1"),
            (r#"{"orderBy":"rank"}"#, "orderBy"),
            (r#"{"orderBy":{"rank":"up"}}"#, "orderBy.rank"),
            (r#"{"offset":-1}"#, "offset"),
            (r#"{"limit":1.5}"#, "limit"),
            (r#"{"limit":null}"#, "limit"),
            (r#"{"state":"dead"}"#, "state"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.code.as_ref(), error.param.as_deref()), ("invalid_options", Some(param)), "{text}");
        }
        let many = (0..=CLAUSES_MAX).map(|n| format!("[\"f{n}\",1]")).collect::<Vec<_>>().join(",");
        assert_eq!(parse(&format!("{{\"where\":[{many}]}}")).unwrap_err().param.as_deref(), Some("where"));
    }
}
