//! Conversations in the state-of-the-world protocol.
//!
//! Each conversation is a file of `tests/golden/xds`, named after the clause of the checklist (`xds.md` §1) that it shows.

use crate::xds_script::scripts;

scripts! {
    p12_a_resource_that_is_known_to_be_bad_is_to_blame_for_the_next_refusal_too,
    p12_a_refusal_is_no_proof_when_something_bad_was_known_to_be_in_it,
    p11_a_nonce_acknowledges_whatever_the_version_says,
    p12_a_refused_resource_that_was_never_accepted_is_left_out,
    p13_a_stale_request_is_dropped_in_state_of_the_world,
    p14_a_reconnecting_client_is_sent_each_type_once,
    p15_only_listeners_clusters_and_scopes_are_full_state,
    p16_a_changed_list_acknowledges_and_subscribes,
    p17_names_that_cross_a_response_come_with_its_answer,
    p18_missing_endpoints_and_routes_are_answered_empty,
    p18_a_cluster_without_endpoints_gets_empty_ones,
    p25_2_a_named_list_ends_a_legacy_wildcard,
    p25_3_an_empty_list_after_names_is_nothing,
    p25_4_a_wildcard_outlives_an_extra_name,
    p25_5_a_wildcard_left_out_is_off,
    p25_6_an_empty_list_after_a_wildcard_by_name_is_nothing,
    p29_a_name_twice_in_a_list_is_once,
}
