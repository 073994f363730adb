//! The names of event types, to and from text. The type itself is in the table.

use std::{convert::Infallible, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::EventType;
use crate::json::Text;

impl FromStr for EventType {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(name.into())
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text("the name of an event type", |name: &str| name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_type_is_found_by_its_name() {
        for known in EventType::KNOWN {
            assert!(!matches!(known, EventType::Unknown(_)));
            assert_eq!(EventType::from(known.as_str()), *known);
            let json = serde_json::to_string(known).unwrap();
            assert_eq!(serde_json::from_str::<EventType>(&json).unwrap(), *known);
        }
        assert_eq!(EventType::from("batch"), EventType::Unknown("batch".into()));
    }

    #[test]
    fn a_webhook_subscribes_to_everything_except_cancellations() {
        let others = EventType::KNOWN.iter();
        let others = others.filter(|known| !EventType::SUBSCRIBABLE.contains(known));
        let others: Vec<_> = others.map(EventType::as_str).collect();
        assert_eq!(others, ["batch.cancelled", "interaction.cancelled"]);
        assert_eq!(EventType::SUBSCRIBABLE.len(), 7);
    }
}
