//! Our definitions, as an API server takes them.
