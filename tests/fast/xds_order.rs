//! Conversations about what is sent before what, and what must wait.
//!
//! Each conversation is a file of `tests/golden/xds`, named after the clause of the checklist (`xds.md` §1) that it shows.

use crate::xds_script::scripts;

scripts! {
    a_scope_that_is_gone_is_not_taken_from_a_client,
    p61_a_listener_waits_for_new_parts_of_a_client_that_routes_by_scopes,
    p58_a_route_refused_for_no_given_reason_keeps_its_clusters_too,
    p58_a_reconnected_client_keeps_clusters_that_go_before_its_routes_are_known,
    p56_a_route_waits_for_a_cluster_that_was_forgotten,
    p56_a_route_waits_for_a_cluster_that_comes_back,
    p55_what_is_referred_to_goes_first,
    p56_a_route_waits_for_the_cluster_it_newly_names,
    p56_a_route_waits_only_so_long,
    p56_a_route_waits_for_no_cluster_that_the_client_does_not_take,
    p56_a_held_route_that_goes_back_or_away_is_let_go,
    p56_a_route_does_not_wait_on_a_stream_of_its_own,
    p56_a_refused_cluster_holds_its_routes_only_so_long,
    p57_endpoints_never_wait_for_the_clusters_acknowledgement,
    p58_a_cluster_leaves_after_the_routes_that_named_it,
    p58_a_cluster_that_no_old_route_names_leaves_at_once,
    p58_a_refused_route_keeps_the_clusters_of_the_one_in_use,
    p58_a_held_route_keeps_the_clusters_of_its_predecessor,
    p58_a_route_that_was_only_in_flight_keeps_its_clusters_too,
    p58_a_reconnected_client_keeps_clusters_until_its_routes_are_known,
    p58_a_reconnected_client_without_routes_keeps_clusters_only_so_long,
    p59_endpoints_follow_every_cluster_change_unprompted,
    p59_endpoints_that_do_not_exist_are_said_to_be_missing,
    p60_endpoints_follow_a_cluster_that_comes_after_them,
    p61_a_route_that_is_asked_for_again_is_sent_again,
    p62_a_missing_secret_is_said_to_be_missing,
    p62_a_secret_leaves_after_what_may_use_it,
    p63_an_extension_stays_while_a_refused_listener_may_use_it,
}

#[test]
fn every_script_is_run() {
    let mut run: Vec<&str> = [crate::xds_delta::SCRIPTS, crate::xds_sotw::SCRIPTS, SCRIPTS].concat();
    run.sort_unstable();
    let entries = std::fs::read_dir(crate::xds_script::folder()).expect("the folder is there");
    let mut there: Vec<String> = entries
        .map(|entry| entry.expect("readable").path())
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    there.sort_unstable();
    assert_eq!(run, there);
}
