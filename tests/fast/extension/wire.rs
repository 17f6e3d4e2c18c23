//! What the hooks do with bytes, whatever these mean: nothing is lost, nothing is made up, and nothing panics.

use std::sync::LazyLock;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use tailscale_gateway::{
    extension::{
        Hook, Outcome, answer, echo,
        splice::{Edits, delimited, fields},
    },
    snapshot::Hosted,
};
use tailscale_gateway_proto::envoy_gateway::{
    Context, ExtensionResource, PostTranslateModifyRequest, PostTranslateModifyResponse, Single,
};

use crate::support::extension_cases::{Case, cases, respond};

/// Any protobuf message, with fields of any number and encoding.
fn message() -> impl Strategy<Value = Bytes> {
    let leaf = prop_oneof![
        (1_u32..1 << 29, any::<u64>()).prop_map(|(number, value)| {
            let mut bytes = Vec::new();
            prost::encoding::uint64::encode(number, &value, &mut bytes);
            Bytes::from(bytes)
        }),
        (1_u32..1 << 29, any::<u64>()).prop_map(|(number, value)| {
            let mut bytes = Vec::new();
            prost::encoding::fixed64::encode(number, &value, &mut bytes);
            bytes.into()
        }),
        (1_u32..1 << 29, any::<u32>()).prop_map(|(number, value)| {
            let mut bytes = Vec::new();
            prost::encoding::fixed32::encode(number, &value, &mut bytes);
            bytes.into()
        }),
        (1_u32..50, any::<Vec<u8>>()).prop_map(|(number, value)| delimited(number, &value)),
    ];
    let list = prop::collection::vec(leaf, 0..6).prop_map(|parts| Bytes::from(parts.concat()));
    list.prop_recursive(4, 40, 5, |inner| {
        let field = (1_u32..50, inner.clone(), any::<bool>()).prop_map(|(number, inner, group)| {
            if !group {
                return delimited(number, &inner);
            }
            let mut bytes = Vec::new();
            prost::encoding::encode_varint(u64::from(number) << 3 | 3, &mut bytes);
            bytes.extend_from_slice(&inner);
            prost::encoding::encode_varint(u64::from(number) << 3 | 4, &mut bytes);
            bytes.into()
        });
        prop::collection::vec(field, 0..5).prop_map(|parts| Bytes::from(parts.concat()))
    })
}

fn list() -> impl Strategy<Value = Vec<Bytes>> {
    prop::collection::vec(message(), 0..5)
}

/// What goes into configurations in one of the golden files: a Gateway `default/eg`, and rules.
pub(super) fn hosted() -> Hosted {
    static HOSTED: LazyLock<Hosted> = LazyLock::new(|| {
        let case = cases().into_iter().find(|case| case.name == "custom-backends.yaml").unwrap();
        (*case.play().hosted()).clone()
    });
    HOSTED.clone()
}

/// An answer as bytes.
fn told(hook: Hook, request: &Bytes, hosted: &Hosted) -> Bytes {
    respond_or_echo(hook, request, hosted).0
}

fn respond_or_echo(hook: Hook, request: &Bytes, hosted: &Hosted) -> (Bytes, Outcome) {
    let answer = answer(hook, request, hosted, &|| false).unwrap();
    (answer.edits.apply(request.clone()).concat().into(), answer.outcome)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn resources_that_are_none_of_our_business_come_back_byte_for_byte(
        clusters in list(), secrets in list(), listeners in list(), routes in list(), json in any::<Vec<u8>>()
    ) {
        let context = Context {
            extension_resources: vec![ExtensionResource { unstructured_bytes: json.into() }],
            ..Default::default()
        };
        let request = PostTranslateModifyRequest {
            post_translate_context: Some(context),
            clusters: clusters.clone(),
            secrets: secrets.clone(),
            listeners: listeners.clone(),
            routes: routes.clone(),
        };
        let request: Bytes = request.encode_to_vec().into();
        for hosted in [Hosted::default(), hosted()] {
            let response = told(Hook::Translate, &request, &hosted);
            let response = PostTranslateModifyResponse::decode(response).unwrap();
            prop_assert_eq!(&response.clusters, &clusters);
            prop_assert_eq!(&response.secrets, &secrets);
            prop_assert_eq!(&response.listeners, &listeners);
            prop_assert_eq!(&response.routes, &routes);
        }
    }

    #[test]
    fn an_object_that_is_none_of_our_business_comes_back_byte_for_byte(object in message(), context in message()) {
        let mut request = delimited(1, &object).to_vec();
        request.extend_from_slice(&delimited(2, &context));
        let request = Bytes::from(request);
        let hosted = hosted();
        for hook in Hook::ALL.into_iter().filter(|hook| *hook != Hook::Translate) {
            prop_assert_eq!(told(hook, &request, &hosted), delimited(1, &object), "{:?}", hook);
        }
    }

    #[test]
    fn bytes_that_are_no_message_are_refused_and_never_answered_with_a_list(bytes in any::<Vec<u8>>()) {
        let request = Bytes::from(bytes);
        let hosted = hosted();
        let readable = fields(&request, 0..request.len()).all(|field| field.is_ok());
        for hook in Hook::ALL {
            let answer = answer(hook, &request, &hosted, &|| false);
            prop_assert_eq!(answer.is_ok(), readable, "{:?}", hook);
            if let Ok(answer) = answer {
                let response = Bytes::from(answer.edits.apply(request.clone()).concat());
                let complete = fields(&response, 0..response.len()).all(|field| field.is_ok());
                prop_assert!(complete);
            }
        }
    }
}

/// The request of the last hook in each golden case.
fn requests() -> Vec<(Case, Bytes, Hosted)> {
    let mut all = Vec::new();
    for case in cases() {
        let played = case.play();
        let hosted = (*played.hosted()).clone();
        let mut asked = None;
        played.asking(&case, &mut |hook, request| {
            if hook == Hook::Translate {
                asked = Some(request.clone());
            }
            respond(hook, request, &hosted)
        });
        all.extend(asked.map(|request| (case, request, hosted)));
    }
    all
}

#[test]
fn a_request_cut_off_anywhere_is_refused_or_given_back() {
    for (case, request, hosted) in requests() {
        for end in 0..request.len() {
            let cut = request.slice(..end);
            let Ok(answer) = answer(Hook::Translate, &cut, &hosted, &|| false) else { continue };
            // What is left is whole at its top level, so the cut fell between two resources.
            let response = Bytes::from(answer.edits.apply(cut.clone()).concat());
            let (before, after) = (
                PostTranslateModifyRequest::decode(cut).unwrap(),
                PostTranslateModifyResponse::decode(response).unwrap(),
            );
            assert!(after.clusters.len() >= before.clusters.len(), "{}", case.name);
            assert_eq!(after.routes.len(), before.routes.len(), "{}", case.name);
        }
    }
}

#[test]
fn however_deep_messages_are_nested_they_come_back_or_are_refused() {
    let hosted = hosted();
    // A message in a message, and so on: nobody looks deeper than has a meaning.
    let mut nested = Bytes::from_static(b"\x08\x01");
    for number in [1, 2, 3, 4, 5, 24, 25, 36].into_iter().cycle().take(10_000) {
        nested = delimited(number, &nested);
    }
    // Groups have to be gone through to find their ends: so many are refused, as protobuf's own readers do.
    let groups = |depth: usize| Bytes::from([vec![0x0b; depth], vec![0x0c; depth]].concat());
    for hook in Hook::ALL {
        let request = delimited(1, &nested);
        let (response, _) = respond_or_echo(hook, &request, &hosted);
        assert_eq!(response, echo(hook, &request).unwrap().apply(request.clone()).concat(), "{hook:?}");
        assert!(answer(hook, &groups(100), &hosted, &|| false).is_ok(), "{hook:?}");
        assert!(answer(hook, &groups(101), &hosted, &|| false).is_err(), "{hook:?}");
        assert!(answer(hook, &groups(1_000_000), &hosted, &|| false).is_err(), "{hook:?}");
    }
}

#[test]
fn a_resource_that_is_broken_inside_makes_the_answer_an_echo() {
    let (_, request, hosted) = requests().into_iter().find(|(case, ..)| case.name == "custom-backends.yaml").unwrap();
    let mut message = PostTranslateModifyRequest::decode(request).unwrap();
    // A virtual host whose length is more than there is.
    let mut table = message.routes[0].to_vec();
    table.extend_from_slice(&[2 << 3 | 2, 100, 0]);
    message.routes[0] = table.into();
    let request: Bytes = message.encode_to_vec().into();
    let (response, outcome) = respond_or_echo(Hook::Translate, &request, &hosted);
    assert!(matches!(outcome, Outcome::Unreadable(_)), "{outcome:?}");
    let response = PostTranslateModifyResponse::decode(response).unwrap();
    assert_eq!((response.clusters, response.routes), (message.clusters, message.routes));
}

#[test]
fn once_the_caller_has_no_more_patience_the_answer_is_an_echo() {
    let (_, request, hosted) = requests().into_iter().find(|(case, ..)| case.name == "custom-backends.yaml").unwrap();
    let answer = answer(Hook::Translate, &request, &hosted, &|| true).unwrap();
    assert_eq!(answer.outcome, Outcome::OutOfTime);
    let echoed = echo(Hook::Translate, &request).unwrap().apply(request.clone()).concat();
    assert_eq!(answer.edits.apply(request).concat(), echoed);
}

#[test]
fn an_object_in_several_parts_is_left_alone() {
    let case = cases().into_iter().find(|case| case.name == "api-routes.yaml").unwrap();
    let hosted = case.play().hosted();
    let host = Single { object: Some("\n\x07a".into()), ..Default::default() };
    let twice: Bytes = [host.encode_to_vec(), host.encode_to_vec()].concat().into();
    assert_eq!(told(Hook::VirtualHost, &twice, &hosted), twice);
}

#[test]
fn an_unknown_field_survives_a_change_of_its_neighbours() {
    let (case, _, hosted) = requests().into_iter().find(|(case, ..)| case.name == "custom-backends.yaml").unwrap();
    let played = case.play();
    let strange = delimited(50_000, b"from another version");
    let mut seen = (0, 0);
    played.asking(&case, &mut |hook, request| {
        if hook != Hook::Translate {
            return respond(hook, request, &hosted);
        }
        let mut message = PostTranslateModifyRequest::decode(request).unwrap();
        for list in [&mut message.clusters, &mut message.routes] {
            for resource in list {
                *resource = [resource.clone(), strange.clone()].concat().into();
            }
        }
        let response = respond(hook, message.encode_to_vec().into(), &hosted);
        let answered = PostTranslateModifyResponse::decode(response.clone()).unwrap();
        let holds = |resource: &Bytes| resource.windows(strange.len()).any(|part| part == strange);
        for (before, after) in [(&message.clusters, &answered.clusters), (&message.routes, &answered.routes)] {
            for (before, after) in before.iter().zip(after) {
                assert!(holds(after));
                seen = (seen.0 + 1, seen.1 + usize::from(before != after));
            }
        }
        response
    });
    assert!(seen.1 > 3, "{seen:?} resources and changes: the case has to change some");
}

#[test]
fn edits_inside_of_edits_keep_every_length_right() {
    let inner = delimited(1, &[7; 126]);
    let middle = delimited(2, &inner);
    let outer = [delimited(3, &middle), delimited(4, b"tail")].concat();
    let find = |number, range: std::ops::Range<usize>| {
        fields(&outer, range).filter_map(Result::ok).find(|field| field.number == number).unwrap()
    };
    let three = find(3, 0..outer.len());
    let two = find(2, three.range());
    let one = find(1, two.range());
    let mut edits = Edits::default();
    let (a, b, c) = (edits.open(), edits.open(), edits.open());
    // Grows over the border at which a length takes two bytes.
    edits.insert(one.end, Bytes::from_static(&[8; 4]));
    edits.close(c, &one);
    edits.insert(two.end, delimited(9, b"new"));
    edits.close(b, &two);
    edits.close(a, &three);
    edits.remove(&find(4, 0..outer.len()));
    let grown = delimited(1, &[[7; 126].as_slice(), &[8; 4]].concat());
    let expected = delimited(3, &delimited(2, &[grown, delimited(9, b"new")].concat()));
    assert_eq!(edits.apply(outer.clone().into()).concat(), expected);
}
