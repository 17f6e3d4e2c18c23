//! What is wrong with an object: a closed list of reasons, the field, and words a person can act on.

use std::fmt;

use super::ObjectKey;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Something the user wrote does not work.
    Error,
    /// It works, but perhaps not as meant.
    Warning,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $severity:ident,)*) => {
        /// Why something is not as its author wrote it. The name is the condition's reason and the metric's label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The name as conditions and metrics spell it.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name),)* }
            }

            /// How bad a problem with this reason is.
            pub fn severity(self) -> Severity {
                match self { $(Reason::$name => Severity::$severity,)* }
            }
        }
    };
}

reasons! {
    /// A document that is no YAML or JSON, or not readable at all.
    Unreadable = Error,
    /// The schema of the object's kind refuses it.
    SchemaViolation = Error,
    /// A kind this program does not read.
    UnknownKind = Warning,
    /// A field the kind's schema does not have; it is ignored.
    UnknownField = Warning,
    /// The same object stands in two places; one of them counts.
    DuplicateObject = Error,
    /// A value is not what its field asks for (Gateway API: `UnsupportedValue`).
    UnsupportedValue = Error,
    /// A field, or a whole object, is accepted but not acted on here, or not yet.
    NotActedOn = Warning,
    /// Gateway API, listener: protocol not supported.
    UnsupportedProtocol = Error,
    /// Gateway API, listener: the port can not be used.
    PortUnavailable = Error,
    /// Gateway API, listener: two listeners of one port want different protocols.
    ProtocolConflict = Error,
    /// Gateway API, listener: two listeners of one port want the same hostname.
    HostnameConflict = Error,
    /// Gateway API, listener: a certificate reference can not be used.
    InvalidCertificateRef = Error,
    /// Gateway API, listener: a route kind is not supported.
    InvalidRouteKinds = Error,
    /// Gateway API, gateway: an address can not be used.
    UnsupportedAddress = Error,
    /// Gateway API, gateway: an address that it asks for is not to be had.
    AddressNotUsable = Error,
    /// Gateway API, gateway: it has no address yet.
    AddressNotAssigned = Warning,
    /// Gateway API, gateway: some listeners are not valid.
    ListenersNotValid = Error,
    /// Gateway API, class: the definitions in the cluster are of a version that is not supported.
    UnsupportedVersion = Warning,
    /// Gateway API: the parameters reference can not be used.
    InvalidParameters = Error,
    /// Gateway API, route: no listener of the parent admits the route.
    NotAllowedByListeners = Error,
    /// Gateway API, route: no hostname in common with the listeners.
    NoMatchingListenerHostname = Error,
    /// Gateway API, route: the section or port named by the parent reference does not exist.
    NoMatchingParent = Error,
    /// Gateway API, reference: not permitted by any ReferenceGrant.
    RefNotPermitted = Error,
    /// Gateway API, reference: this group and kind can not be referred to here.
    InvalidKind = Error,
    /// Gateway API, backend: the object or its port does not exist.
    BackendNotFound = Error,
    /// Gateway API, backend: the application protocol is not supported.
    UnsupportedProtocolBackend = Error,
    /// Gateway API, route: a filter can not be used as it stands.
    IncompatibleFilters = Error,
    /// The object that a reference names does not exist.
    TargetNotFound = Error,
    /// The tailnet that a TailscaleGateway or a TailscaleEndpoints names does not exist.
    TailnetNotFound = Warning,
    /// No EndpointSlice has a port of a Service that a route uses.
    NoEndpoints = Warning,
    /// Two objects claim one name; both are told.
    Conflicted = Error,
    /// An Envoy refused a resource made from this object.
    RefusedByEnvoy = Error,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong with one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The object to mend.
    pub object: ObjectKey,
    /// The path of the field, such as `spec.rules[0].backendRefs[1].port`; empty for the whole object.
    pub field: String,
    /// Why, from the closed list.
    pub reason: Reason,
    /// What is wrong and what to do about it, as one sentence or two without a line break.
    pub message: String,
}

impl Problem {
    /// Notes what is wrong with a field of an object.
    pub fn new(object: ObjectKey, field: impl Into<String>, reason: Reason, message: impl Into<String>) -> Self {
        Self { object, field: field.into(), reason, message: message.into() }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.reason.severity()
    }
}

impl fmt::Display for Problem {
    /// `Kind namespace/name: field: message`, the field left out when it is the whole object.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.object)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}
