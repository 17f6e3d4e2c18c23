//! Looking at a cluster once, with the rights of whoever asks. Never writes, never watches, and never decides what is asked.

use futures::{StreamExt as _, stream};
use k8s_openapi::{
    api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    apimachinery::pkg::apis::meta::v1::APIResourceList,
};
use kube::{
    Api, Client, Error,
    api::{ApiResource, DynamicObject, ListParams, PostParams},
};
use serde_json::Value;

use crate::model::ObjectName;

/// Requests that are under way at once, at most.
const AT_ONCE: usize = 8;
/// Objects in one page of a list.
const PAGE: u32 = 500;

/// What may be asked for, by the path that it has at the API server.
#[derive(Clone, Copy, Debug)]
pub struct Resource<'a> {
    /// Group and version, such as `apps/v1`.
    pub api_version: &'a str,
    /// The `kind` field.
    pub kind: &'a str,
    /// Such as `deployments`.
    pub plural: &'a str,
}

/// A request that somebody may be allowed or not: group, resource with its part, verb, and where.
#[derive(Clone, Debug)]
pub struct Attempt<'a> {
    /// The API group.
    pub group: &'a str,
    /// The resource, or a part of it, such as `httproutes/status`.
    pub resource: &'a str,
    /// The verb of RBAC.
    pub verb: &'a str,
    /// In which namespace; everywhere when it is left out.
    pub namespace: Option<&'a str>,
    /// With which object; with all when it is left out.
    pub name: Option<&'a str>,
}

/// An API server that is looked at.
#[derive(Clone)]
pub struct Look(Client);

impl Look {
    /// Looks with the rights of this client.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// Whether anybody answers.
    ///
    /// # Errors
    ///
    /// The words in which it is refused, or why nobody does.
    pub async fn answers(&self) -> Result<(), String> {
        self.0.apiserver_version().await.map(drop).map_err(|error| words(&error))
    }

    /// An object, as JSON; nothing when there is none.
    ///
    /// # Errors
    ///
    /// The words in which it is refused, or why nobody answers.
    pub async fn object(&self, resource: Resource<'_>, name: &ObjectName) -> Result<Option<Value>, String> {
        match self.api(resource, &name.namespace).get_opt(&name.name).await {
            Ok(found) => Ok(found.map(|object| to_json(&object))),
            Err(error) => Err(words(&error)),
        }
    }

    /// All objects of a namespace, or of all when that is empty, that have these labels; as JSON. None when there is no such
    /// resource.
    ///
    /// # Errors
    ///
    /// The words in which it is refused, or why nobody answers.
    pub async fn objects(&self, resource: Resource<'_>, namespace: &str, labels: &str) -> Result<Vec<Value>, String> {
        let (api, mut found) = (self.api(resource, namespace), Vec::new());
        let mut parameters = ListParams { limit: Some(PAGE), ..ListParams::default().labels(labels) };
        loop {
            let page = match api.list(&parameters).await {
                Ok(page) => page,
                Err(Error::Api(status)) if status.code == 404 => return Ok(found),
                Err(error) => return Err(words(&error)),
            };
            found.extend(page.items.iter().map(to_json));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(found),
            }
        }
    }

    /// The kinds that the API server has in a group and version; none when there is no such version.
    ///
    /// # Errors
    ///
    /// Why nobody answers.
    pub async fn kinds(&self, api_version: &str) -> Result<APIResourceList, String> {
        let listed = match api_version.contains('/') {
            true => self.0.list_api_group_resources(api_version).await,
            false => self.0.list_core_api_resources(api_version).await,
        };
        match listed {
            Err(Error::Api(status)) if status.code == 404 => {
                Ok(APIResourceList { group_version: api_version.to_owned(), resources: Vec::new() })
            }
            other => other.map_err(|error| words(&error)),
        }
    }

    /// Whether a ServiceAccount may do each of these.
    pub async fn may(&self, account: &ObjectName, attempts: &[Attempt<'_>]) -> Vec<Result<bool, String>> {
        let asked = attempts.iter().map(|attempt| self.may_one(account, attempt));
        stream::iter(asked).buffered(AT_ONCE).collect().await
    }

    async fn may_one(&self, account: &ObjectName, attempt: &Attempt<'_>) -> Result<bool, String> {
        let (resource, part) = match attempt.resource.split_once('/') {
            Some((resource, part)) => (resource, Some(part.to_owned())),
            None => (attempt.resource, None),
        };
        let attributes = ResourceAttributes {
            group: Some(attempt.group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource: part,
            verb: Some(attempt.verb.to_owned()),
            namespace: attempt.namespace.map(str::to_owned),
            name: attempt.name.map(str::to_owned),
            ..ResourceAttributes::default()
        };
        // Everybody of a namespace's ServiceAccounts is in these groups (Kubernetes documentation, "Authenticating").
        let accounts = "system:serviceaccounts";
        let spec = SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{}:{}", account.namespace, account.name)),
            groups: Some(vec![
                accounts.to_owned(),
                format!("{accounts}:{}", account.namespace),
                "system:authenticated".to_owned(),
            ]),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let answered = Api::all(self.0.clone()).create(&PostParams::default(), &review).await;
        match answered {
            Ok(SubjectAccessReview { status, .. }) => Ok(status.is_some_and(|status| status.allowed)),
            Err(error) => Err(words(&error)),
        }
    }

    fn api(&self, resource: Resource<'_>, namespace: &str) -> Api<DynamicObject> {
        let Resource { api_version, kind, plural } = resource;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        };
        match namespace {
            "" => Api::all_with(self.0.clone(), &resource),
            namespace => Api::namespaced_with(self.0.clone(), namespace, &resource),
        }
    }
}

/// What went wrong, as short as it can be said.
fn words(error: &Error) -> String {
    match error {
        Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        error => error.to_string(),
    }
}

fn to_json(object: &DynamicObject) -> Value {
    serde_json::to_value(object).expect("an object has string keys")
}
