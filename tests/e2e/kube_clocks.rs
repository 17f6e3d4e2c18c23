//! Replicas whose clocks disagree: who holds the Lease keeps it as long as it renews it, whatever it takes for the time.

use std::cell::RefCell;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::support::{cluster::Cluster, gateway::Gateway, wait::until};

/// Two years, in seconds.
const WRONG: i64 = 2 * 365 * 24 * 3600;

async fn lease(cluster: &Cluster) -> Result<Value, String> {
    let printed = cluster.kubectl(&["get", "lease", "tailscale-gateway", "--output", "json"]).await;
    let lease: Value = serde_json::from_str(&printed.stdout).map_err(|_| printed.stderr)?;
    Ok(lease["spec"].clone())
}

/// Waits until one of these replicas holds the Lease, and answers which.
async fn holder(cluster: &Cluster, replicas: &[&str]) -> String {
    until(&format!("one of {replicas:?} to hold the Lease"), async || {
        let lease = lease(cluster).await?;
        let holder = lease["holderIdentity"].as_str().unwrap_or_default().to_owned();
        if replicas.contains(&&*holder) { Ok(holder) } else { Err(lease.to_string()) }
    })
    .await
}

/// Waits until the Lease has been renewed three times, always by this replica. Answers the last time that it wrote there.
async fn keeps(cluster: &Cluster, replica: &str) -> Timestamp {
    let seen = RefCell::new(Vec::new());
    until(&format!("{replica} to renew the Lease"), async || {
        let lease = lease(cluster).await?;
        assert_eq!(lease["holderIdentity"], replica, "another replica took it");
        let mut seen = seen.borrow_mut();
        if seen.last() != Some(&lease["renewTime"]) {
            seen.push(lease["renewTime"].clone());
        }
        match seen.as_slice() {
            [_, _, _, last] => Ok(last.as_str().and_then(|last| last.parse().ok()).expect("a time")),
            fewer => Err(format!("{fewer:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn replicas_whose_clocks_are_years_apart_take_turns_like_others() {
    let cluster = Cluster::start().await;
    cluster.apply_gateway_api().await;
    cluster.apply_our_crds().await;
    let kubeconfig = cluster.kubeconfig();
    let start = async |name: &str, clock: i64| {
        let flags = ["--replica", name, "--lease-seconds", "6"];
        Gateway::start_in_cluster_at(clock, &kubeconfig, &flags).await
    };
    let right = start("right", 0).await;
    holder(&cluster, &["right"]).await;
    let (behind, ahead) = (start("behind", -WRONG).await, start("ahead", WRONG).await);
    // For the one, the Lease will only be written in years; for the other, it ran out years ago.
    keeps(&cluster, "right").await;
    right.kill().await;

    // One of them follows, and writes what it takes for the time; the other has to respect that.
    let second = holder(&cluster, &["behind", "ahead"]).await;
    let written = keeps(&cluster, &second).await;
    let off = written.duration_since(Timestamp::now());
    assert!(off.abs() > SignedDuration::from_secs(WRONG - 3600), "its clock is not wrong: {written}");
    assert_eq!(off.is_negative(), second == "behind", "{written}");
    let (first, last) = if second == "behind" { (&behind, &ahead) } else { (&ahead, &behind) };
    first.kill().await;
    let third = holder(&cluster, &["behind", "ahead"].map(|one| if one == second { "" } else { one })).await;
    keeps(&cluster, &third).await;
    for replica in [&right, first, last] {
        let lines = replica.process().lines();
        let began = lines.iter().filter(|line| line.contains("\"this replica writes\"")).count();
        let ended = lines.iter().filter(|line| line.contains("\"this replica writes no more\"")).count();
        assert_eq!((began, ended), (1, 0), "{lines:#?}");
    }
}
