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
    /// `offset`, `limit` (0: none) and `state`. Words and numbers are as the SDK has checked them: what it would have
    /// refused counts as not given.
    ///
    /// # Errors
    /// `invalid_options`, with the path of what is wrong as its `param`.
    pub fn parse(json: Value<'_>) -> Result<Self, Error> {
        let count = |key: &str| json.get_u64(key).map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        let given = json.at("where");
        Ok(Self {
            clauses: if given.is_null() { Vec::new() } else { read_where(given)? },
            order: read_order(json.at("orderBy"))?,
            offset: count("offset").unwrap_or(0),
            limit: count("limit").filter(|&limit| limit > 0),
            scope: match json.get_str("state").as_deref() {
                Some("archived") => Scope::Archived,
                Some("all") => Scope::All,
                _ => Scope::Live,
            },
        })
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
    let mut order = Vec::new();
    for (field, value) in value.members() {
        let is_descending = value.as_str().is_some_and(|direction| direction == "desc");
        let direction = if is_descending { Direction::Descending } else { Direction::Ascending };
        order.push((field.decode().into_owned(), direction));
    }
    if order.len() > ORDER_MAX {
        return Err(invalid("orderBy", "too many fields"));
    }
    Ok(order)
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
    fn wrong_conditions_name_themselves() {
        for (text, param) in [
            (r#"{"where":1}"#, "where"),
            (r#"{"where":{"a":[1]}}"#, "where.a"),
            (r#"{"where":[["a",1],["a","~",1]]}"#, "where.1"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.code.as_ref(), error.param.as_deref()), ("invalid_options", Some(param)), "{text}");
        }
        let many = (0..=CLAUSES_MAX).map(|n| format!("[\"f{n}\",1]")).collect::<Vec<_>>().join(",");
        assert_eq!(parse(&format!("{{\"where\":[{many}]}}")).unwrap_err().param.as_deref(), Some("where"));
    }
}
