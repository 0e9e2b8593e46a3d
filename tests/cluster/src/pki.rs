//! Certificates, and the files by which the components and people reach the API server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::addresses::{API_SERVICE, HOST, api, node, node_name};
use crate::command::output_with;
use crate::error::{Error, Result};
use crate::tools::Tools;

/// Who is who: file, name, group, and the addresses a server's certificate is for.
fn list(nodes: usize) -> String {
    let server = format!(
        "{HOST},{API_SERVICE},kubernetes,kubernetes.default,kubernetes.default.svc,kubernetes.default.svc.cluster.local"
    );
    let mut lines = vec![
        format!("kube-apiserver kube-apiserver - {server}"),
        // The groups are Kubernetes' own. The controllers and DNS are the administrator here: their rights are not
        // what is tested.
        "admin kubernetes-admin system:masters -".to_owned(),
        "kube-apiserver-kubelet kube-apiserver-kubelet-client system:masters -".to_owned(),
        "kube-proxy system:kube-proxy - -".to_owned(),
    ];
    for number in 1..=nodes {
        let name = node_name(number);
        lines.push(format!("{name} system:node:{name} system:nodes {name},{}", node(number)));
    }
    lines.join("\n") + "\n"
}

/// Makes everything below `state`: `pki/`, `kubeconfig`, `kubeconfigs/`.
pub fn make(state: &Path, tools: &Tools, nodes: usize) -> Result<()> {
    let pki = state.join("pki");
    fs::create_dir_all(&pki).map_err(Error::io("create", &pki))?;
    output_with(Command::new(tools.pod()).arg("certs").arg(&pki), &list(nodes))?;

    let folder = state.join("kubeconfigs");
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    write(&state.join("kubeconfig"), &pki, "admin")?;
    let names = (1..=nodes).map(node_name).chain(["kube-proxy".to_owned()]);
    names.into_iter().try_for_each(|name| write(&kubeconfig(state, &name), &pki, &name))
}

/// The file of a component's access.
pub fn kubeconfig(state: &Path, name: &str) -> PathBuf {
    state.join("kubeconfigs").join(name)
}

fn write(path: &Path, pki: &Path, name: &str) -> Result<()> {
    let pki = pki.display();
    let text = format!(
        "apiVersion: v1\n\
         kind: Config\n\
         current-context: simsiam\n\
         clusters:\n\
         - name: simsiam\n  cluster: {{server: '{api}', certificate-authority: '{pki}/ca.crt'}}\n\
         users:\n\
         - name: {name}\n  user: {{client-certificate: '{pki}/{name}.crt', client-key: '{pki}/{name}.key'}}\n\
         contexts:\n\
         - name: simsiam\n  context: {{cluster: simsiam, user: {name}}}\n",
        api = api()
    );
    fs::write(path, text).map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_list_lines_have_four_fields() {
        let list = list(2);
        assert!(list.lines().all(|line| line.split(' ').count() == 4), "{list}");
        assert!(list.contains("node-2 system:node:node-2 system:nodes node-2,10.213.0.12"));
    }
}
