//! How a replica spells what its Envoys say, in an annotation. Pure.

use serde_json::{Map, Value, json};

use super::Sayings;
use crate::model::{Edition, ObjectName, Programmed, Said, shortened};

/// The annotation with what a replica's Envoys say.
pub(super) const ANNOTATION: &str = "gateway.tailscale.com/programmed";
/// How many bytes it may have: an API server takes 256 KiB for all annotations of an object (`TotalAnnotationSizeLimitB` of its
/// validation).
const ROOM: usize = 200 * 1024;
/// How many bytes of each refusal are told, the first of these with which all Gateways have room.
const WORDS: [usize; 4] = [400, 100, 30, 3];
/// In the place of a name: there are more Gateways.
const MORE: &str = "…";

/// `{"NAMESPACE/NAME": [GENERATION, HASH, true, false, or a refusal's words]}`, and `"…"` when there was no room for all.
pub(super) fn spelled(says: &Sayings) -> String {
    let mut text = String::new();
    for words in WORDS {
        text = spelled_with(says, words, usize::MAX);
        if text.len() <= ROOM {
            return text;
        }
    }
    // As many as fit, if those that come first are as long as the others; else some fewer.
    let length = text.len() / says.of.len().max(1);
    let mut most = ROOM / length.max(1);
    while text.len() > ROOM {
        text = spelled_with(says, WORDS[WORDS.len() - 1], most);
        most = most * 9 / 10;
    }
    text
}

fn spelled_with(says: &Sayings, words: usize, most: usize) -> String {
    let said = |programmed: &Programmed| match programmed {
        Programmed::Acknowledged => json!(true),
        Programmed::Pending | Programmed::NotProvisioned(_) => json!(false),
        Programmed::Refused(text) => json!(shortened(text.clone(), words, "…")),
    };
    let one = |(gateway, about): (&ObjectName, &Said)| {
        let Edition { generation, listeners } = about.edition;
        (gateway.to_string(), json!([generation, listeners, said(&about.programmed)]))
    };
    let mut all: Map<String, Value> = says.of.iter().take(most).map(one).collect();
    if says.is_partial || says.of.len() > most {
        all.insert(MORE.to_owned(), Value::Null);
    }
    Value::Object(all).to_string()
}

/// What another replica spelled. What is not understood is taken for something that is not known.
pub(super) fn read(text: &str) -> Sayings {
    let Ok(Value::Object(says)) = serde_json::from_str(text) else {
        return Sayings { is_partial: true, ..Sayings::default() };
    };
    let mut all = Sayings { is_partial: says.contains_key(MORE), ..Sayings::default() };
    for (gateway, value) in says.iter().filter(|(gateway, _)| *gateway != MORE) {
        let Some((namespace, name)) = gateway.split_once('/') else { continue };
        let edition = Edition {
            generation: value[0].as_i64().unwrap_or_default(),
            listeners: value[1].as_u64().unwrap_or_default(),
        };
        let programmed = match &value[2] {
            Value::Bool(true) => Programmed::Acknowledged,
            Value::String(words) => Programmed::Refused(words.clone()),
            _ => Programmed::Pending,
        };
        all.of.insert(ObjectName::new(namespace, name), Said { edition, programmed });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(gateways: usize, programmed: &Programmed) -> Sayings {
        let one = |number: usize| {
            let edition = Edition { generation: 3, listeners: u64::MAX - number as u64 };
            let name = ObjectName::new("default", format!("gateway-{number}"));
            (name, Said { edition, programmed: programmed.clone() })
        };
        Sayings { of: (0..gateways).map(one).collect(), is_partial: false }
    }

    #[test]
    fn what_fits_is_read_as_it_was() {
        for programmed in
            [Programmed::Pending, Programmed::Acknowledged, Programmed::Refused("it says \"no\"".to_owned())]
        {
            let says = says(100, &programmed);
            assert_eq!(read(&spelled(&says)), says);
        }
    }

    #[test]
    fn refusals_of_many_gateways_are_told_in_fewer_words() {
        let many = read(&spelled(&says(2_000, &Programmed::Refused("\"".repeat(5_000)))));
        assert!(spelled(&many).len() <= ROOM);
        assert_eq!((many.of.len(), many.is_partial), (2_000, false));
        let is_short = |said: &Said| matches!(&said.programmed, Programmed::Refused(words) if words.ends_with('…'));
        assert!(many.of.values().all(is_short));
    }

    #[test]
    fn of_gateways_that_have_no_room_it_is_told_that_nothing_is_known() {
        let all = says(20_000, &Programmed::Acknowledged);
        let text = spelled(&all);
        assert!(text.len() <= ROOM && text.len() > ROOM / 2, "{}", text.len());
        let heard = read(&text);
        assert!(heard.is_partial && heard.of.len() < all.of.len());
        let about = |name: &str| {
            let name = ObjectName::new("default", name);
            heard.about(&name, all.of.get(&name).map(|said| said.edition).unwrap_or_default())
        };
        assert_eq!(
            (about("gateway-0"), about("gateway-9999")),
            (Some(Programmed::Acknowledged), Some(Programmed::Pending))
        );
        assert_eq!(read("nonsense").about(&ObjectName::new("a", "b"), Edition::default()), Some(Programmed::Pending));
    }
}
