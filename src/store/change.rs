//! One difference to the world.

use crate::{api::Object, model::ObjectKey};

/// What a source tells about one object.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object exists and looks like this.
    Upsert(Object),
    /// The object does not exist.
    Remove(ObjectKey),
}
