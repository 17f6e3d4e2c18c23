//! The cases in `tests/golden/extension`: manifests for a played Envoy Gateway, and what its configurations become with us.
//!
//! One file for each: documents, the line `# Output`, and the rest. Comments at the beginning of a line say how it is played:
//!
//! * `# Gateways: default/eg`: the Gateways of one configuration; several when they are merged;
//! * `# Scheme: v2`: how the Envoy Gateway names things; v1 when it does not say;
//! * `# Standalone: yes`: it has its objects from files;
//! * `# Hooks: VirtualHost Translation`: which it asks; `Translation` when it does not say;
//! * `# Left out: routes`: what is not part of the last hook's call;
//! * `# Policies: default/a=deny default/b=broken`: what policies come to on routes;
//! * `# Xds: 127.0.0.1:18000`: where its Envoys reach our xDS; nowhere when it does not say;
//! * `# Identity: system xds.example`: the namespace with the certificates by which they show whose they are, and the name in
//!   our own; they need none when it does not say.

use std::{fs, path::Path, path::PathBuf, sync::Arc};

use bytes::Bytes;
use prost::Message;
use tailscale_gateway::{
    compile::{Compiler, Hosting, HostingIdentity, Settings, XdsAddress},
    extension::{Answer, Hook, Outcome, answer},
    model::ObjectName,
    pipeline::Pipeline,
    snapshot::{Hosted, SnapshotCache},
    source::FileWorld,
    store::Change,
};
use tailscale_gateway_proto::envoy_gateway::{PostTranslateModifyRequest, PostTranslateModifyResponse};

use super::{
    envoy_gateway::{Configuration, Resources, Scheme, translate},
    tools::repository,
};

/// The line between the documents and what becomes of them.
const MARK: &str = "\n# Output\n";

/// One case.
pub struct Case {
    /// Its file.
    pub path: PathBuf,
    /// The file's name.
    pub name: String,
    /// The documents, comments included.
    pub input: String,
    /// What the file says becomes of them.
    pub output: String,
    /// The Gateways of the configuration.
    pub gateways: Vec<ObjectName>,
    /// How the Envoy Gateway is configured.
    pub configuration: Configuration,
    /// Where its Envoys reach our xDS.
    pub xds: Option<XdsAddress>,
    /// How they show there whose they are.
    pub identity: Option<HostingIdentity>,
}

/// All cases, by name.
pub fn cases() -> Vec<Case> {
    let folder = repository().join("tests/golden/extension");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut cases: Vec<Case> = entries.map(|entry| Case::read(entry.expect("the folder can be read").path())).collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!cases.is_empty(), "{} has no cases", folder.display());
    cases
}

impl Case {
    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_name().expect("a file of a folder").to_string_lossy().into_owned();
        let (input, output) = text.split_once(MARK).unwrap_or((text.trim_end(), ""));
        Self::parse(path.clone(), name, input, output)
    }

    /// A case whose documents these are.
    pub fn of(input: &str) -> Self {
        Self::parse(PathBuf::new(), "case.yaml".to_owned(), input, "")
    }

    fn parse(path: PathBuf, name: String, input: &str, output: &str) -> Self {
        let words = |label: &str| -> Option<Vec<String>> {
            let line = input.lines().find_map(|line| line.strip_prefix(label))?;
            Some(line.split_whitespace().map(str::to_owned).collect())
        };
        let mut configuration = Configuration::default();
        if words("# Scheme:").is_some_and(|words| words == ["v2"]) {
            configuration.scheme = Scheme::V2;
        }
        configuration.standalone = words("# Standalone:").is_some_and(|words| words == ["yes"]);
        if let Some(words) = words("# Hooks:") {
            let hook = |word: &String| {
                let known = Hook::ALL.into_iter().find(|hook| hook.label() == *word);
                known.unwrap_or_else(|| panic!("{name}: there is no hook {word}"))
            };
            configuration.hooks = words.iter().map(hook).collect();
        }
        let policies = words("# Policies:").unwrap_or_default();
        let policy = |word: &String| {
            let (route, says) = word.split_once('=').expect("NAMESPACE/NAME=WORD");
            let (namespace, name) = route.split_once('/').expect("NAMESPACE/NAME");
            (ObjectName::new(namespace, name), says.to_owned())
        };
        configuration.policies = policies.iter().map(policy).collect();
        let left_out = words("# Left out:").unwrap_or_default();
        configuration.routes_included = !left_out.iter().any(|word| word == "routes");
        let gateways = words("# Gateways:").unwrap_or_else(|| vec!["default/eg".to_owned()]);
        let xds = words("# Xds:").map(|words| {
            let (host, port) = words[0].rsplit_once(':').expect("HOST:PORT");
            XdsAddress { host: host.into(), port: port.parse().expect("a port") }
        });
        let identity = words("# Identity:").map(|words| HostingIdentity {
            namespace: words[0].as_str().into(),
            server_name: words[1].as_str().into(),
        });
        Self {
            path,
            input: input.to_owned(),
            output: output.to_owned(),
            gateways: gateways
                .iter()
                .map(|name| name.split_once('/').expect("NAMESPACE/NAME"))
                .map(|(namespace, name)| ObjectName::new(namespace, name))
                .collect(),
            configuration,
            xds,
            identity,
            name,
        }
    }

    /// The text of the file with another output.
    pub fn text(&self, output: &str) -> String {
        format!("{}{MARK}{output}", self.input)
    }

    /// What its manifests are compiled to.
    pub fn play(&self) -> Played {
        let mut world = FileWorld::new();
        world.load(Path::new(&self.name), self.input.as_bytes());
        assert_eq!(world.problems(), [], "{}", self.name);
        let authorities = fs::read_to_string(repository().join("tests/golden/authorities.pem")).expect("it is there");
        let settings = Settings {
            privileged_ports: false,
            in_cluster: false,
            trusted_authorities: Some(authorities.into()),
            hosting: Some(Hosting { xds: self.xds.clone(), identity: self.identity.clone() }),
        };
        let cache = Arc::new(SnapshotCache::new());
        let mut pipeline = Pipeline::new(Compiler::new(settings), Arc::clone(&cache));
        pipeline.apply(world.objects().cloned().map(Change::Upsert));
        Played { world, cache, pipeline }
    }
}

/// A case's manifests, compiled.
pub struct Played {
    /// The manifests.
    pub world: FileWorld,
    /// What is served over xDS.
    pub cache: Arc<SnapshotCache>,
    /// What made it.
    pub pipeline: Pipeline,
}

impl Played {
    /// What is put into configurations.
    pub fn hosted(&self) -> Arc<Hosted> {
        self.pipeline.published_hosted().load_full()
    }

    /// The configuration of the case's Gateways, with what is in `hosted`.
    pub fn configuration(&self, case: &Case, hosted: &Hosted) -> Resources {
        self.asking(case, &mut |hook, request| respond(hook, request, hosted))
    }

    /// The configuration of the case's Gateways, with these answers.
    pub fn asking(&self, case: &Case, extension: &mut dyn FnMut(Hook, Bytes) -> Bytes) -> Resources {
        translate(self.world.objects(), &case.gateways, &case.configuration, extension)
    }
}

impl Played {
    /// The request of the last hook.
    pub fn last_request(&self, case: &Case) -> PostTranslateModifyRequest {
        let mut asked = None;
        self.asking(case, &mut |hook, request| {
            if hook == Hook::Translate {
                asked = Some(PostTranslateModifyRequest::decode(request.clone()).expect("the request is one"));
            }
            respond(hook, request, &Hosted::default())
        });
        asked.expect("the last hook is asked")
    }
}

/// The response to a request of the last hook.
pub fn translated(request: &PostTranslateModifyRequest, hosted: &Hosted) -> PostTranslateModifyResponse {
    let response = respond(Hook::Translate, request.encode_to_vec().into(), hosted);
    PostTranslateModifyResponse::decode(response).expect("the response is one")
}

/// The response to a request, which must not be an echo out of need.
pub fn respond(hook: Hook, request: Bytes, hosted: &Hosted) -> Bytes {
    let Answer { edits, outcome, .. } = answer(hook, &request, hosted, &|| false).expect("the request is a message");
    assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    edits.apply(request).concat().into()
}

/// What an Envoy Gateway with another extension server behind this one asks that, or this one if it is told so: about the
/// response to its last hook's request.
pub fn asked_again(request: Bytes, response: Bytes) -> Bytes {
    let request = PostTranslateModifyRequest::decode(request).expect("the request is one");
    let response = PostTranslateModifyResponse::decode(response).expect("the response is one");
    let again = PostTranslateModifyRequest {
        post_translate_context: request.post_translate_context,
        clusters: response.clusters,
        secrets: response.secrets,
        listeners: response.listeners,
        routes: response.routes,
    };
    again.encode_to_vec().into()
}
