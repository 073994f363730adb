//! The members of an event and their order.

use crate::event::Event;

/// The way in which something changed the members.
pub(super) struct Members {
    pub(super) text: &'static str,
    /// Returns the text of the original, in any layout.
    pub(super) undo: fn(&[&str]) -> Option<String>,
}

pub(super) static MEMBERS: [Members; 4] = [
    Members {
        text: "",
        undo: |tokens| Some(tokens.concat()),
    },
    Members {
        text: "the order of its members was changed",
        undo: |tokens| in_documented_order(&tokens.concat()),
    },
    Members {
        text: "members without a value were added (`null`)",
        undo: without_nulls,
    },
    Members {
        text: "the order of its members was changed, members without a value were added (`null`)",
        undo: |tokens| in_documented_order(&without_nulls(tokens)?),
    },
];

/// An event is written in the order in which the service documents its members.
fn in_documented_order(text: &str) -> Option<String> {
    let event: Event = serde_json::from_str(text).ok()?;
    serde_json::to_string(&event).ok()
}

/// As a struct with an `Option` for each member writes those that were absent.
fn without_nulls(tokens: &[&str]) -> Option<String> {
    let mut kept: Vec<&str> = Vec::with_capacity(tokens.len());
    let mut rest = tokens;
    while let [first, after @ ..] = rest {
        rest = after;
        if let [":", "null", following @ ..] = after
            && first.starts_with('"')
        {
            // With the comma in front of it, or else the one behind.
            rest = match (kept.last(), following) {
                (Some(&","), _) => {
                    kept.pop();
                    following
                }
                (_, [",", following @ ..]) => following,
                _ => following,
            };
        } else {
            kept.push(first);
        }
    }
    (kept.len() < tokens.len()).then(|| kept.concat())
}
