//! Row conditions: the operators of server reads, evaluated alike on the server and in the page (protocol.md 4.7).

use super::error::Error;
use super::fold::fold_case;
use super::json::{Kind, Value};
use crate::core::text::{concat, digits, short};

/// Most clauses in one query.
pub const CLAUSES_MAX: usize = 64;
/// Most values in one `IN` list.
pub const LIST_MAX: usize = 10_000;

/// How a clause compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the protocol's own words, section 4.7")]
pub enum Operator {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
    Is,
    IsNot,
    Like,
    NotLike,
    ILike,
    NotILike,
}

impl Operator {
    /// All operators with their spelling on the wire.
    pub const ALL: [(Self, &'static str); 14] = [
        (Self::Eq, "="),
        (Self::Ne, "!="),
        (Self::Lt, "<"),
        (Self::Le, "<="),
        (Self::Gt, ">"),
        (Self::Ge, ">="),
        (Self::In, "IN"),
        (Self::NotIn, "NOT IN"),
        (Self::Is, "IS"),
        (Self::IsNot, "IS NOT"),
        (Self::Like, "LIKE"),
        (Self::NotLike, "NOT LIKE"),
        (Self::ILike, "ILIKE"),
        (Self::NotILike, "NOT ILIKE"),
    ];

    /// The spelling on the wire.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(operator, _)| *operator == self).map_or("=", |(_, name)| name)
    }

    /// Reads the spelling, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, spelling)| spelling.eq_ignore_ascii_case(name)).map(|(operator, _)| *operator)
    }
}

/// A value that a field is compared with. A missing field counts as null.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// `null`
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A string.
    Text(String),
}

impl Literal {
    /// Reads a scalar; objects and arrays are none.
    pub fn parse(value: Value<'_>) -> Option<Self> {
        Some(match value.kind {
            Kind::Null => Self::Null,
            Kind::Bool => Self::Bool(value.as_bool()?),
            Kind::Number => Self::Number(value.as_f64()?),
            Kind::String => Self::Text(value.as_str()?.into_owned()),
            Kind::Array | Kind::Object => return None,
        })
    }
}

/// One condition on one field. Clauses of a query are joined by AND.
#[derive(Clone, Debug, PartialEq)]
pub struct Clause {
    /// Field or column, as the sender named it.
    pub field: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what: one value, or several for the `IN` pair.
    pub operands: Vec<Literal>,
}

impl Clause {
    /// Reads `[field, value]` (equality) or `[field, operator, value]`.
    ///
    /// # Errors
    /// `query_unsupported_operator`, `query_invalid_identifier` or `invalid_request`, naming what is wrong.
    pub fn parse(value: Value<'_>) -> Result<Self, Error> {
        let parts = value.list();
        let (field, operator, operand) = match parts.as_slice() {
            [field, operand] => (field, Operator::Eq, operand),
            [field, operator, operand] => {
                let name = operator.as_str().unwrap_or_default();
                let Some(operator) = Operator::parse(&name) else {
                    return Err(Error::wire(
                        "query_unsupported_operator",
                        concat(&["unknown operator ", short(&name, 40)]),
                    ));
                };
                (field, operator, operand)
            }
            _ => return Err(Error::wire("invalid_request", "a clause is [field, value] or [field, operator, value]")),
        };
        let field = field.as_str().filter(|field| !field.is_empty());
        let Some(field) = field else {
            return Err(Error::wire("query_invalid_identifier", "a clause names its field with a string"));
        };
        let list = matches!(operator, Operator::In | Operator::NotIn);
        let operands = if list && operand.kind == Kind::Array {
            read_list(*operand)
        } else {
            Literal::parse(*operand).map(|one| vec![one])
        };
        match operands {
            Some(operands) if operands.len() <= LIST_MAX => Ok(Self { field: field.into_owned(), operator, operands }),
            Some(_) => Err(Error::wire(
                "invalid_request",
                concat(&["more than ", &digits(LIST_MAX as u64), " values for ", short(&field, 60)]),
            )),
            None => Err(Error::wire(
                "invalid_request",
                concat(&[short(&field, 60), " cannot be compared with ", short(operand.raw, 60)]),
            )),
        }
    }

    /// Whether a row whose field has this value (`None`: no such member) meets the condition.
    pub fn matches(&self, value: Option<Value<'_>>) -> bool {
        let first = self.operands.first().unwrap_or(&Literal::Null);
        match self.operator {
            Operator::Eq | Operator::Is => equal(value, first),
            Operator::Ne | Operator::IsNot => !equal(value, first),
            Operator::In => self.operands.iter().any(|operand| equal(value, operand)),
            Operator::NotIn => !self.operands.iter().any(|operand| equal(value, operand)),
            Operator::Lt => compare(value, first).is_some_and(std::cmp::Ordering::is_lt),
            Operator::Le => compare(value, first).is_some_and(std::cmp::Ordering::is_le),
            Operator::Gt => compare(value, first).is_some_and(std::cmp::Ordering::is_gt),
            Operator::Ge => compare(value, first).is_some_and(std::cmp::Ordering::is_ge),
            Operator::Like | Operator::NotLike | Operator::ILike | Operator::NotILike => {
                is_like(self.operator, value, first)
            }
        }
    }
}

/// Whether a value meets a condition of the `LIKE` family. What is no text does not, nor does it meet the opposite.
pub fn is_like(operator: Operator, value: Option<Value<'_>>, pattern: &Literal) -> bool {
    let fold = matches!(operator, Operator::ILike | Operator::NotILike);
    like(value, pattern, fold) == Some(matches!(operator, Operator::Like | Operator::ILike))
}

/// The scalars of a list, one more than allowed at most. `None` when something else is among them.
fn read_list(list: Value<'_>) -> Option<Vec<Literal>> {
    let mut out = Vec::new();
    for item in list.elements() {
        if out.len() > LIST_MAX {
            break;
        }
        out.push(Literal::parse(item)?);
    }
    Some(out)
}

fn equal(value: Option<Value<'_>>, literal: &Literal) -> bool {
    let null = value.is_none_or(Value::is_null);
    match (value, literal) {
        (_, Literal::Null) => null,
        (Some(value), Literal::Bool(other)) => value.as_bool() == Some(*other),
        (Some(value), Literal::Number(other)) => value.as_f64() == Some(*other),
        (Some(value), Literal::Text(other)) => value.as_json_str().is_some_and(|text| text.is(other)),
        (None, Literal::Bool(_) | Literal::Number(_) | Literal::Text(_)) => false,
    }
}

/// Order of a number with a number or a text with a text; anything else has none.
fn compare(value: Option<Value<'_>>, literal: &Literal) -> Option<std::cmp::Ordering> {
    match literal {
        Literal::Number(other) => value?.as_f64()?.partial_cmp(other),
        Literal::Text(other) => Some(value?.as_str()?.as_ref().cmp(other.as_str())),
        Literal::Null | Literal::Bool(_) => None,
    }
}

fn like(value: Option<Value<'_>>, literal: &Literal, fold: bool) -> Option<bool> {
    let Literal::Text(pattern) = literal else { return None };
    let text = value?.as_str()?;
    Some(if fold { like_match(&fold_case(&text), &fold_case(pattern)) } else { like_match(&text, pattern) })
}

/// SQL's `LIKE` without an escape: `%` is any run, `_` any one character, the whole text must match. Linear memory,
/// no recursion: on a mismatch it goes back to the last `%` only.
pub fn like_match(text: &str, pattern: &str) -> bool {
    let (text, pattern) = (letters(text), letters(pattern));
    let (mut at, mut want) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(want) {
            Some('%') => {
                retry = Some((at, want));
                want += 1;
                continue;
            }
            Some(&letter) if letter == '_' || text.get(at) == Some(&letter) => {
                at += 1;
                want += 1;
                continue;
            }
            Some(_) | None => {}
        }
        let Some((from, percent)) = retry else { return false };
        retry = Some((from + 1, percent));
        at = from + 1;
        want = percent + 1;
    }
    pattern.iter().skip(want).all(|&letter| letter == '%')
}

fn letters(text: &str) -> Vec<char> {
    let mut letters = Vec::new();
    for letter in text.chars() {
        letters.push(letter);
    }
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(clause: &str, value: &str) -> bool {
        let clause = Clause::parse(Value::parse(clause).unwrap()).unwrap();
        clause.matches((!value.is_empty()).then(|| Value::parse(value).unwrap()))
    }

    #[test]
    fn every_operator() {
        for (clause, value, expected) in [
            (r#"["f","a"]"#, r#""a""#, true),
            (r#"["f","=",1]"#, "1.0", true),
            (r#"["f","=",1]"#, r#""1""#, false),
            (r#"["f","!=",1]"#, "2", true),
            (r#"["f","!=",null]"#, "", false),
            (r#"["f","<",2]"#, "1", true),
            (r#"["f","<","b"]"#, r#""a""#, true),
            (r#"["f","<",2]"#, r#""1""#, false),
            (r#"["f","<=",2]"#, "2", true),
            (r#"["f",">",2]"#, "2", false),
            (r#"["f",">=",2]"#, "2", true),
            (r#"["f","IN",["a",null]]"#, "", true),
            (r#"["f","in",["a"]]"#, r#""b""#, false),
            (r#"["f","NOT IN",["a"]]"#, r#""b""#, true),
            (r#"["f","IS",null]"#, "null", true),
            (r#"["f","IS NOT",null]"#, "0", true),
            (r#"["f","LIKE","%spec%"]"#, r#""a spec b""#, true),
            (r#"["f","LIKE","s_ec"]"#, r#""spec""#, true),
            (r#"["f","LIKE","spec"]"#, r#""Spec""#, false),
            (r#"["f","ILIKE","SPEC"]"#, r#""spec""#, true),
            (r#"["f","NOT LIKE","x%"]"#, r#""spec""#, true),
            (r#"["f","NOT LIKE","x%"]"#, "null", false),
            (r#"["f","NOT ILIKE","S%"]"#, r#""spec""#, false),
        ] {
            assert_eq!(check(clause, value), expected, "{clause} on {value}");
        }
    }

    #[test]
    fn bad_clauses_are_refused_with_a_code() {
        for (clause, code) in [
            (r#"["f"]"#, "invalid_request"),
            (r#"["f","~",1]"#, "query_unsupported_operator"),
            (r#"[1,1]"#, "query_invalid_identifier"),
            (r#"["f","=",[1]]"#, "invalid_request"),
            (r#"["f",{}]"#, "invalid_request"),
        ] {
            assert_eq!(Clause::parse(Value::parse(clause).unwrap()).unwrap_err().code, code, "{clause}");
        }
    }

    #[test]
    fn like_does_not_blow_up() {
        let text = "a".repeat(2000);
        assert!(!like_match(&text, &("%a".repeat(200) + "b")));
    }
}
