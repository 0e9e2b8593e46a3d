//! The whole life of a cluster on this machine: start, use, node failures, removal without leftovers.
//!
//! Needs root, the packages of `cargo xtask cluster` and, the first time, Go; otherwise the tests are skipped with a message.

#![allow(clippy::unwrap_used, reason = "the helpers are tests too")]

mod traces;

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simsiam_cluster::{Cluster, Error, GPU, NODE_GRACE, Options, POD_IMAGE, Tools, condition};

/// One cluster at a time.
static MACHINE: Mutex<()> = Mutex::new(());

fn possible() -> bool {
    let obstacle = simsiam_cluster::machine_obstacle().or_else(Tools::obstacle);
    if let Some(why) = &obstacle {
        eprintln!("skipped: {why}");
    }
    obstacle.is_none()
}

fn options(state: &Path) -> Options {
    Options { state: Some(state.to_path_buf()), gpus_per_node: 4, ..Options::default() }
}

#[test]
fn cluster_up_and_down_leaves_nothing_behind() {
    let _one = MACHINE.lock().unwrap_or_else(|broken| broken.into_inner());
    if !possible() {
        return;
    }
    let before = traces::traces();
    let state = tempfile::tempdir().unwrap();
    let cluster = Cluster::up(&options(state.path())).unwrap();

    for name in ["node-1", "node-2"] {
        let node = cluster.json(&["get", "node", name]).unwrap();
        assert_eq!(condition(&node, "Ready").as_deref(), Some("True"));
        assert_eq!(node["status"]["allocatable"][GPU], "4");
    }
    let again = Cluster::up(&options(state.path())).unwrap_err();
    assert!(matches!(&again, Error::Running { state: other } if other == state.path()), "{again}");
    assert!(cluster.node(3).is_err());

    pods_reach_one_another(&cluster);
    network_policies_are_obeyed(&cluster);
    gpus_are_counted(&cluster);
    a_lost_node_is_seen(&cluster);

    // As after a crash: nothing but the folder is known.
    std::mem::forget(cluster);
    simsiam_cluster::down(state.path()).unwrap();
    assert_eq!(traces::new_since(&before), Vec::<String>::new());
    assert!(state.path().join("logs/node-2-kubelet.log").is_file(), "the logs stay");
    simsiam_cluster::down(state.path()).unwrap();
}

#[test]
fn failed_start_reports_why_and_leaves_nothing_behind() {
    let _one = MACHINE.lock().unwrap_or_else(|broken| broken.into_inner());
    if !possible() {
        return;
    }
    let before = traces::traces();
    let state = tempfile::tempdir().unwrap();
    // etcd's port.
    let taken = TcpListener::bind("127.213.0.1:2379").unwrap();
    let error = Cluster::up(&options(state.path())).unwrap_err();
    drop(taken);
    let text = error.to_string();
    assert!(matches!(&error, Error::Component { component, .. } if component == "etcd"), "{text}");
    assert!(text.contains("logs/etcd.log") && text.contains("address already in use"), "{text}");
    assert_eq!(traces::new_since(&before), Vec::<String>::new());

    let foreign = tempfile::tempdir().unwrap();
    std::fs::write(foreign.path().join("thesis.tex"), "years").unwrap();
    assert!(Cluster::up(&options(foreign.path())).unwrap_err().to_string().contains("not a cluster's"));
    assert!(foreign.path().join("thesis.tex").is_file());
}

fn pods_reach_one_another(cluster: &Cluster) {
    let host = TcpListener::bind((cluster.host_address().unwrap(), 0)).unwrap();
    let port = host.local_addr().unwrap().port();
    let server = std::thread::spawn(move || host.accept().unwrap().0.write_all(b"from the host").unwrap());

    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "peers"},
        "spec": {"clusterIP": "None", "selector": {"app": "peers"}, "publishNotReadyAddresses": true}});
    let address = format!("{}:{port}", cluster.host_address().unwrap());
    let objects = [
        service,
        pod("first", 1, 0, &["serve", ":7000", "from the first pod"]),
        pod("name", 2, 1, &["ask", "first.peers.default.svc:7000", "30"]),
        pod("host", 1, 1, &["ask", &address, "30"]),
        pod("api", 2, 0, &["reach", "kubernetes.default.svc:443", "30"]),
        pod("nowhere", 2, 0, &["reach", "nobody.example.com:80", "0"]),
    ];
    cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()).unwrap();
    let said = |pod: &str, phase: &str| {
        wait_for_phase(cluster, pod, phase);
        cluster.kubectl(&["logs", pod]).unwrap()
    };
    assert_eq!(said("name", "Succeeded"), "from the first pod\n", "by its name, on the other node");
    assert_eq!(said("host", "Succeeded"), "from the host\n");
    assert_eq!(said("api", "Succeeded"), "reached\n");
    assert!(said("nowhere", "Failed").contains("no such host"), "a name outside is refused at once");
    server.join().unwrap();
}

fn network_policies_are_obeyed(cluster: &Cluster) {
    let only_friends = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "friends"},
        "spec": {
            "podSelector": {"matchLabels": {"name": "guarded"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"name": "friend"}}}]}],
        },
    });
    let guarded = pod("guarded", 1, 0, &["serve", ":7000", "for friends"]);
    for object in [only_friends, guarded] {
        cluster.apply(&object.to_string()).unwrap();
    }
    wait_for_phase(cluster, "guarded", "Running");
    let pod_address = cluster.json(&["get", "pod", "guarded"]).unwrap()["status"]["podIP"].as_str().unwrap().to_owned();
    // A pod is open until its node has heard of the policy, here as anywhere.
    let guard = format!("-d {pod_address}/32");
    let end = Instant::now() + Duration::from_secs(20);
    while !cluster.node(1).unwrap().run(&["iptables-save", "-t", "filter"]).unwrap().contains(&guard) {
        assert!(Instant::now() < end, "no packet filter for {pod_address}");
        std::thread::sleep(Duration::from_millis(200));
    }
    cluster.apply(&pod("stranger", 2, 0, &["ask", "guarded.peers.default.svc:7000", "0"]).to_string()).unwrap();
    cluster.apply(&pod("friend", 2, 0, &["ask", "guarded.peers.default.svc:7000", "20"]).to_string()).unwrap();
    wait_for_phase(cluster, "friend", "Succeeded");
    wait_for_phase(cluster, "stranger", "Failed");
    let log = cluster.kubectl(&["logs", "stranger"]).unwrap();
    assert!(log.contains("i/o timeout") || log.contains("connection refused"), "{log}");
}

fn gpus_are_counted(cluster: &Cluster) {
    cluster.apply(&pod("greedy", 1, 5, &["pause"]).to_string()).unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let pod = cluster.json(&["get", "pod", "greedy"]).unwrap();
        let conditions = pod["status"]["conditions"].to_string();
        if conditions.contains("Insufficient nvidia.com/gpu") {
            break;
        }
        assert!(Instant::now() < end, "{conditions}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn a_lost_node_is_seen(cluster: &Cluster) {
    // The lease's renewal, the controller's look and this test's own add to the grace.
    let bound = NODE_GRACE + Duration::from_secs(6);
    let (one, two) = (cluster.node(1).unwrap(), cluster.node(2).unwrap());
    let (since, bridge) = (ready_since(cluster, "node-1"), bridge_address());
    two.kill().unwrap();
    let took = two.wait_ready(false, bound).unwrap();
    assert!(took > NODE_GRACE / 3, "too soon for a healthy node: {took:?}");
    two.start().unwrap();
    assert_eq!(ready_since(cluster, "node-1"), since, "the other node has not noticed");
    assert_eq!((bridge_address(), bridge.as_str()), (bridge.clone(), "02:0a:d5:00:00:01\n"));

    one.cut_network().unwrap();
    two.stop_kubelet().unwrap();
    one.wait_ready(false, bound).unwrap();
    two.wait_ready(false, bound).unwrap();
    one.restore_network().unwrap();
    two.start().unwrap();
    one.wait_ready(true, Duration::from_secs(20)).unwrap();
    let node = cluster.json(&["get", "node", "node-2"]).unwrap();
    assert_eq!(node["status"]["allocatable"][GPU], "4", "a node that was killed has its GPUs again");
}

fn bridge_address() -> String {
    std::fs::read_to_string("/sys/class/net/simsiam0/address").unwrap()
}

fn ready_since(cluster: &Cluster, node: &str) -> (String, Value) {
    let node = cluster.json(&["get", "node", node]).unwrap();
    let conditions = node["status"]["conditions"].as_array().unwrap();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
    (condition(&node, "Ready").unwrap(), ready["lastTransitionTime"].clone())
}

fn pod(name: &str, node: usize, gpus: usize, arguments: &[&str]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "peers", "name": name}},
        "spec": {
            "hostname": name, "subdomain": "peers", "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "nodeSelector": {"kubernetes.io/hostname": format!("node-{node}")},
            "containers": [{
                "name": "pod", "image": POD_IMAGE, "command": ["/pod"], "args": arguments,
                "resources": {"limits": {GPU: gpus.to_string()}},
            }],
        },
    })
}

fn wait_for_phase(cluster: &Cluster, pod: &str, phase: &str) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let object = cluster.json(&["get", "pod", pod]).unwrap();
        if object["status"]["phase"] == phase {
            return;
        }
        assert!(Instant::now() < end, "{pod} is not {phase}: {}", object["status"]);
        std::thread::sleep(Duration::from_millis(200));
    }
}
