//! Paths of fields as people read them: `spec.rules[0].matches[1].path.value`, `metadata.labels[example.com/team]`.

use serde_json::Value;

/// The path of a field of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldPath(String);

impl FieldPath {
    /// The path that a JSON Pointer (RFC 6901) takes through a value.
    pub(super) fn from_pointer(pointer: &str, root: &Value) -> Self {
        let mut path = Self::default();
        let mut here = Some(root);
        for part in pointer.split('/').skip(1) {
            let name = part.replace("~1", "/").replace("~0", "~");
            match here {
                Some(Value::Array(items)) => {
                    let index: Option<usize> = name.parse().ok();
                    path = index.map_or_else(|| path.member(&name), |index| path.item(index));
                    here = index.and_then(|index| items.get(index));
                }
                _ => {
                    path = path.member(&name);
                    here = here.and_then(|value| value.get(&name));
                }
            }
        }
        path
    }

    /// The path of a member of this mapping.
    pub(super) fn member(&self, name: &str) -> Self {
        let plain =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        Self(match (plain, self.0.is_empty()) {
            (true, true) => name.to_owned(),
            (true, false) => format!("{}.{name}", self.0),
            (false, _) => format!("{}[{name}]", self.0),
        })
    }

    /// The path of an entry of this list.
    pub(super) fn item(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The path as text.
    pub(super) fn into_string(self) -> String {
        self.0
    }
}
