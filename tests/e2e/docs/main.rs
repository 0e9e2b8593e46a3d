//! The documentation itself: links resolve, the programs accept the commands, YAML matches its schema. All faults are
//! reported at once, with page and line.

#![allow(clippy::unwrap_used, clippy::expect_used)] // The helpers here are tests too.

mod commands;
mod kubernetes;
mod links;
mod page;
mod programs;
mod schema;
mod shell;
mod yaml;

use std::collections::BTreeMap;

use page::{Page, anchors, pages};

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn links_of_every_page_resolve() {
    let pages = pages();
    let links: usize = pages.values().map(|page| page.links.len()).sum();
    println!("{links} links on {} pages", pages.len());
    assert!(links > 100);
    none(&pages.values().flat_map(|page| links::faults(page, &pages)).collect::<Vec<_>>());
}

#[test]
fn every_page_is_reachable_from_an_index() {
    none(&links::unreached(&pages()));
}

#[test]
fn commands_are_accepted_by_their_programs() {
    let mut count = commands::Count::default();
    let faults: Vec<_> = pages().values().flat_map(|page| commands::faults(page, &mut count)).collect();
    println!("{} of ours, {} of kubectl and helm, {} paths", count.programs, count.kubernetes, count.paths);
    assert!(count.programs > 50 && count.kubernetes > 30 && count.paths > 30);
    none(&faults);
}

#[test]
fn yaml_blocks_match_their_schemas() {
    let mut count = yaml::Count::default();
    let faults: Vec<_> = pages().values().flat_map(|page| yaml::faults(page, &mut count)).collect();
    println!("{count:?}");
    for kind in ["runs", "fragments of runs", "chart values", "other objects", "configurations of Prometheus"] {
        assert!(count.contains_key(kind), "no {kind}");
    }
    none(&faults);
}

/// A page in docs/ with this text.
fn made_up(text: &str) -> Page {
    Page::parse("docs/made-up.md", text)
}

/// Checks that each fault starts with its position and contains these words.
fn expect(faults: &[String], expected: &[(usize, &str)]) {
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, (line, words)) in faults.iter().zip(expected) {
        assert!(fault.starts_with(&format!("docs/made-up.md:{line}: ")) && fault.contains(words), "{words}: {fault}");
    }
}

#[test]
fn anchors_match_githubs() {
    for (heading, expected) in [
        ("Two commands", "two-commands"),
        ("`spec.dataset.cache`", "specdatasetcache"),
        ("`simsiam_step`", "simsiam_step"),
        ("What it is, and what it is not", "what-it-is-and-what-it-is-not"),
        ("A [link](page.md#x) & more", "a-link--more"),
        ("Über 1/√dim", "über-1dim"),
    ] {
        assert_eq!(anchors(&[heading.to_owned()]), [expected]);
    }
    let twice = ["The operator", "Runs", "The operator", "The operator"].map(str::to_owned);
    assert_eq!(anchors(&twice), ["the-operator", "runs", "the-operator-1", "the-operator-2"]);
}

#[test]
fn broken_link_is_reported() {
    let page = made_up(concat!(
        "# Made up\n\n",
        "[here](#made-up), [there](../README.md#two-commands), [a folder](runbooks/), [a site](https://example.com/#x)\n",
        "and [nowhere](nowhere.md), `[code](code.md)`\n",
        "![no picture](no.png)\n\n",
        "    [code](code.md)\n\n",
        "- an item with [no such heading](../README.md#no-such-heading)\n\n",
        "  [out](../../other)\n\n",
        "```\n[code](code.md)\n```\n",
        "| [`cell`](#nothing) |\n",
    ));
    let mut pages = pages();
    pages.insert(page.name.clone(), made_up("# Made up"));
    expect(
        &links::faults(&page, &pages),
        &[
            (4, "there is no `docs/nowhere.md`"),
            (5, "there is no `docs/no.png`"),
            (9, "`README.md` has no heading of this anchor, but "),
            (11, "leads out of the repository"),
            (16, "`docs/made-up.md` has no heading of this anchor, but made-up"),
        ],
    );
}

#[test]
fn unlinked_page_is_reported() {
    let page = |name: &str, text: &str| (name.to_owned(), Page::parse(name, text));
    let pages = BTreeMap::from([
        page("README.md", "[all](docs/README.md)"),
        page("docs/README.md", "[monitoring](monitoring.md), [decisions](adr/README.md)"),
        page("docs/adr/0001-one.md", ""),
        page("docs/adr/0002-two.md", ""),
        page("docs/adr/README.md", "[one](0001-one.md)"),
        page("docs/monitoring.md", "[one](runbooks/One.md)"),
        page("docs/lost.md", ""),
        page("docs/runbooks/One.md", ""),
        page("docs/runbooks/Two.md", ""),
    ]);
    let expected = [
        "docs/adr/0002-two.md: no link from docs/adr/README.md",
        "docs/lost.md: no link from docs/README.md",
        "docs/runbooks/Two.md: no link from docs/monitoring.md",
    ];
    let found = links::unreached(&pages);
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(|(found, begin)| found.starts_with(begin)),
        "{found:?}"
    );
}

#[test]
fn wrong_command_is_reported() {
    let page = made_up(concat!(
        "`simsiam`, `simsiam data pack`, `simsiam …`, `simsiam COMMAND -f x`, `simsiam convert IN OUT --format …`\n",
        "`simsiam lineer -f run.yaml`, `cargo xtask bench\ntrian`, `simsiam run …`, `simsiam run --epochs …`\n\n",
        "    FOO=1 target/release/simsiam run -f my-run.yaml \\\n",
        "        --no-such-flag | tee log          # --not-a-flag\n",
        "    simsiam validate                      # what?\n",
        "    simsiam convert a.pth b.pth --format pht\n",
        "    simsiam linear -f x.yaml --set linear.lr=0.3 --set linear.epoch=10\n",
        "    cargo xtask images --imprt && kubectl get srs,pods\n\n",
        "```rust\nsimsiam nothing\n```\n",
    ));
    expect(
        &commands::faults(&page, &mut commands::Count::default()),
        &[
            (5, "unexpected argument '--no-such-flag' found"),
            (7, "expected --file too"),
            (8, "invalid value 'pht'"),
            (9, "linear.epoch: found `epoch`, expected one of "),
            (10, "unexpected argument '--imprt' found"),
            (2, "unrecognized subcommand 'lineer'"),
            (2, "unrecognized subcommand 'trian'"),
            (3, "unexpected argument '--epochs' found"),
        ],
    );
}

#[test]
fn wrong_kubectl_or_helm_argument_is_reported() {
    let page = made_up(concat!(
        "    kubectl get ssr,pods -n simsiam-system && kubectl delete crd simsiamruns.simsiam.dev\n",
        "    kubectl get ssrs\n",
        "    kubectl wait --for=condition=Complete job/x && kubectl wait --for=condition=Succeeded=true ssr/x\n",
        "    kubectl wait --for=condition=Complete ssr/x\n",
        "    kubectl get ssr x -o jsonpath='{.status.phase} {.metadata.name} {.status.fase}'\n",
        "    kubectl explain ssr.spec.workers && kubectl explain ssr.spec.wrokers\n",
        "    kubectl patch ssr x --type merge -p '{\"spec\": {\"suspended\": true}}'\n",
        "    kubectl apply -f examples/nothing.yaml -f examples/*.yaml -f examples/*.yml -f run.yaml\n",
        "    helm install x charts/simsiam-operator --set replicas=2,imagePullSecrets={a,b} --set commonLabels.any=x\n",
        "    helm install x charts/simsiam-operator --set image.repo=x,image.pullPolicy=Never,replicas=two\n\n",
        "`--set replicas=2`, `--set linear.epochs=10`, `--set replica=2`, `operator/Dockerfile.old`\n",
        "`cargo xtask cluster kubectl get ssrs -A`\n",
    ));
    expect(
        &commands::faults(&page, &mut commands::Count::default()),
        &[
            (2, "found the resource `ssrs`"),
            (4, "found the condition `Complete`, expected one of Succeeded, "),
            (5, ".status.fase: found `fase`, expected one of "),
            (6, ".spec.wrokers: found `wrokers`, expected one of "),
            (7, "spec.suspended: found `suspended`, expected one of "),
            (8, "there is no `examples/nothing.yaml`"),
            (8, "there is no `examples/*.yml`"),
            (10, "image.repo: found `repo`, expected one of "),
            (10, "replicas: found \"two\", expected "),
            (12, "replica: found `replica`, expected one of "),
            (12, "there is no `operator/Dockerfile.old`"),
            (13, "found the resource `ssrs`"),
        ],
    );
    let said = schema::at(schema::run(), "status.conditions").unwrap()["description"].to_string();
    let words: Vec<_> = said.split(|c: char| !c.is_alphanumeric()).collect();
    for condition in kubernetes::CONDITIONS {
        assert!(words.contains(&condition), "{condition}: {said}");
    }
}

#[test]
fn wrong_yaml_is_reported() {
    let page = made_up(concat!(
        "```yaml\nworkers: {nodes: 2, network: {env: {ANY: x}}}\n---\nworkers: {nodez: 2}\n```\n\n",
        "```yaml\nspec: {imagePullPolicy: Sometimes}\n```\n\n",
        "```yaml\npretrain: {epoch: 2}\n```\n\n",
        "```yaml\ndataset: {train: s3://a/b}\noutput: {uri: s3://a/c}\nknn: {}\n```\n\n",
        "```yaml\nreplicas: 2\nmetrics: {rule: {}}\n```\n\n",
        "- ```yaml\n  words\n  ```\n",
        "  ```yaml\n  kind: Secret\n  apiVersion: v1\n  ```\n",
        "  ```yaml\n  replicas: 2\n  workers: {}\n  ```\n",
        "  ```yaml\n  a: [\n  ```\n",
    ));
    expect(
        &yaml::faults(&page, &mut yaml::Count::new()),
        &[
            (4, "spec.workers.nodez: found `nodez`, expected one of "),
            (8, "spec.imagePullPolicy: found \"Sometimes\", expected one of "),
            (12, "spec.pretrain.epoch: found `epoch`, expected one of "),
            (12, "simsiam validate: spec.pretrain.epoch: Unknown field: did you mean"),
            (16, "simsiam validate: spec.dataset.val: Required value: knn needs labelled validation images"),
            (22, "metrics.rule: found `rule`, expected one of "),
            (27, "found \"words\", expected fields"),
            (30, "found a \"Secret\" without a name, expected metadata.name"),
            (34, "found the fields replicas, workers, expected those of "),
            (38, "found no YAML"),
        ],
    );
}
