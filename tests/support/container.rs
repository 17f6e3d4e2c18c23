//! A container that is run as its image would be: what it mounts is where it says, and names of Services lead somewhere. For
//! programs whose files have fixed places.
//!
//! It sees the machine's files but for the folders, directly below `/`, that something is mounted in. The program is one of the
//! machine's.

use std::{fs, path::Path, process::Command};

use super::{cluster::Cluster, deployment::FirstPod};

/// Makes a root of the machine's folders, with those of `$over` in their places, and runs the program there. `/etc/hosts` is
/// another one. It needs a mount namespace.
const SCRIPT: &str = r#"
set -eu
root=$1 over=$2 hosts=$3
shift 3
mount -t tmpfs container "$root"
for folder in "$over"/*; do
    mkdir "$root/${folder##*/}"
    mount --bind "$folder" "$root/${folder##*/}"
done
for entry in /*; do
    here=$root/${entry##*/}
    if [ -e "$here" ]; then continue; fi
    if [ -L "$entry" ]; then
        cp -P "$entry" "$here"
    elif [ -d "$entry" ]; then
        mkdir "$here"
        mount --rbind "$entry" "$here"
    fi
done
mount --bind "$hosts" "$root/etc/hosts"
cd /
exec chroot "$root" "$@"
"#;

/// The command of the container of a Deployment's first pod (`NAMESPACE/NAME`), as soon as all that it needs is there; what is
/// added to it are more arguments of the program.
///
/// `program` stands for the image's; `services` are addresses and the names that they have; `folder`, which is to be empty,
/// holds its files.
pub async fn command(
    cluster: &Cluster,
    deployment: &str,
    program: &Path,
    services: &[(&str, &str)],
    folder: &Path,
) -> Command {
    let pod = FirstPod::of(cluster, deployment).await;
    let (root, over, hosts) = (folder.join("root"), folder.join("over"), folder.join("hosts"));
    let written = "the folder can be written";
    fs::create_dir(&root).expect(written);
    for mount in pod.mounts(cluster).await {
        let here = over.join(mount.place.trim_start_matches('/'));
        fs::create_dir_all(&here).expect(written);
        for (file, content) in mount.files {
            fs::write(here.join(file), content).expect(written);
        }
    }
    // Envoy asks with the dot that ends a name, and finds what is written in just that way.
    let lines = services.iter().map(|(address, name)| format!("{address} {name} {name}.\n"));
    fs::write(&hosts, format!("127.0.0.1 localhost\n{}", lines.collect::<String>())).expect(written);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--", "sh", "-c", SCRIPT, "container"]);
    command.args([&root, &over, &hosts]).arg(program).args(pod.arguments()).envs(pod.environment());
    command
}
