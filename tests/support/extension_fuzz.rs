//! What must hold for every request to a hook, whatever is in it. The fuzzer looks for bytes for which it does not; the fast tests
//! replay the ones that were worth keeping (`fuzz/corpus/extension/`).

use std::{path::Path, sync::Arc, sync::LazyLock};

use bytes::Bytes;
use tailscale_gateway::{
    compile::{Compiler, Hosting, Settings},
    extension::{
        Answer, Hook, Outcome, answer, echo,
        splice::{Field, fields},
    },
    pipeline::Pipeline,
    snapshot::{Hosted, SnapshotCache},
    source::FileWorld,
    store::Change,
};

/// What is put into configurations: rules of all kinds of routes, and endpoints on a Gateway `default/eg`.
static HOSTED: LazyLock<Hosted> = LazyLock::new(|| {
    let mut world = FileWorld::new();
    for (name, text) in [
        ("custom-backends.yaml", include_str!("../golden/extension/custom-backends.yaml")),
        ("grpc-routes.yaml", include_str!("../golden/extension/grpc-routes.yaml")),
        ("passing-routes.yaml", include_str!("../golden/extension/passing-routes.yaml")),
        ("api-routes.yaml", include_str!("../golden/extension/api-routes.yaml")),
    ] {
        let (documents, _) = text.split_once("\n# Output\n").unwrap_or((text, ""));
        // Objects that stand in several of them count once.
        world.load(Path::new(name), documents.as_bytes());
    }
    let settings = Settings { hosting: Some(Hosting::default()), ..Settings::default() };
    let mut pipeline = Pipeline::new(Compiler::new(settings), Arc::new(SnapshotCache::new()));
    pipeline.apply(world.objects().cloned().map(Change::Upsert));
    (**pipeline.published_hosted().load()).clone()
});

/// Takes the first byte for a hook and the rest for its request.
///
/// # Panics
/// When something does not hold.
pub fn fuzz_extension(data: &[u8]) {
    let Some((first, request)) = data.split_first() else { return };
    let hook = Hook::ALL[usize::from(*first) % Hook::ALL.len()];
    let request = Bytes::copy_from_slice(request);
    let is_message = all(&request).is_some();
    let Ok(Answer { edits, outcome, .. }) = answer(hook, &request, &HOSTED, &|| false) else {
        assert!(!is_message, "a message is refused");
        return;
    };
    assert!(is_message, "what is no message is answered");
    let response = Bytes::from(edits.apply(request.clone()).concat());
    let echoed = Bytes::from(echo(hook, &request).expect("it is a message").apply(request.clone()).concat());
    if !matches!(outcome, Outcome::Done { changed: 1.. }) {
        assert_eq!(response, echoed, "{outcome:?}");
    }
    let again = answer(hook, &request, &HOSTED, &|| false).expect("it was one");
    assert_eq!(again.edits.apply(request.clone()).concat(), response, "equal requests, equal responses");
    let late = answer(hook, &request, &HOSTED, &|| true).expect("it was one");
    if late.outcome == Outcome::OutOfTime {
        assert_eq!(late.edits.apply(request.clone()).concat(), echoed, "out of time");
    }
    nothing_is_lost(hook, &echoed, &response);
}

/// The fields of a message, if it is one.
fn all(message: &[u8]) -> Option<Vec<Field>> {
    fields(message, 0..message.len()).collect::<Result<_, _>>().ok()
}

fn nothing_is_lost(hook: Hook, echoed: &[u8], response: &[u8]) {
    let (before, after) = (all(echoed).expect("an echo is a message"), all(response).expect("a response is a message"));
    let of = |list: &[Field], number: u32| list.iter().filter(|field| field.is(number)).count();
    if hook != Hook::Translate {
        assert_eq!(of(&after, 1), of(&before, 1));
        return;
    }
    for (number, list) in [(1, "clusters"), (2, "secrets")] {
        assert!(of(&after, number) >= of(&before, number), "{list}");
    }
    let listeners = |bytes: &[u8], list: &[Field]| {
        list.iter().filter(|field| field.is(3)).map(|field| bytes[field.range()].to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(listeners(response, &after), listeners(echoed, &before));
    assert_eq!(of(&after, 4), of(&before, 4), "routes");
}
