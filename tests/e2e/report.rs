//! The journal and the report of a small real run, the report in a real browser.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use simsiam_tests::browser::Browser;
use simsiam_tests::{RunFile, root, run_ok, synth, text};

/// Three epochs of a tiny network on generated images, evaluated by kNN, a linear classifier and fine-tuning.
fn small_run(folder: &Path) -> RunFile {
    let data = synth(folder, 24, 6);
    let mut file = RunFile::new(folder, &data, "val");
    file.set("/pretrain/epochs", 3.into())
        .set("/pretrain/lr", 0.4.into())
        .set("/knn", json!({"everyEpochs": 1, "protocols": [{"k": 5, "temperature": 0.07}]}))
        .set("/linear", json!({"epochs": 4, "batchSize": 40, "lr": 3, "optimizer": "sgd", "untrainedToo": true}))
        .set("/finetune", json!({"epochs": 3, "batchSize": 40, "fraction": 0.5}))
        .set("/report", json!({"views": 6, "queries": 4, "points": 50}));
    file
}

fn run(file: &RunFile) {
    run_ok(&["run", "-f", file.write(), "--nproc", "2", "--metrics-addr", "127.0.0.1:0"]);
}

/// The lines of a journal.
fn journal(output: &Path, name: &str) -> Vec<Value> {
    let path = output.join("logs").join(name);
    let lines = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn target() -> PathBuf {
    let folder = root().join("target/report");
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn finished_run_has_a_journal_and_a_report_that_renders() {
    let folder = tempfile::tempdir().unwrap();
    let file = small_run(folder.path());
    run(&file);
    let output = file.output();

    let lines = journal(&output, "metrics-pretrain-a1.jsonl");
    let of = |kind: &str| lines.iter().filter(|l| l["kind"] == kind).collect::<Vec<_>>();
    assert_eq!((of("start").len(), of("knn").len(), of("checkpoint").len()), (1, 3, 3));
    let last = of("training").pop().unwrap().clone();
    assert_eq!((&last["step"], &last["epoch"], &last["attempt"]), (&15.into(), &3.0.into(), &1.into()));
    assert_eq!(last["loss"], file.result()["loss"]);
    assert_eq!(journal(&output, "metrics-knn-a1.jsonl").len(), 2);
    let events = fs::read_dir(output.join("logs"))
        .unwrap()
        .filter(|f| f.as_ref().unwrap().file_name().to_str().unwrap().starts_with("events.out.tfevents."));
    assert!(events.count() >= 4, "one a checkpoint and one of kNN");

    let report = output.join("report.html");
    assert_eq!(file.result()["report"], text(&report));
    let html = fs::read_to_string(&report).unwrap();
    assert!(html.len() < 3_000_000, "{} bytes", html.len());
    look(&report);
}

/// Opens the page at two widths and checks what a reader would see.
fn look(report: &Path) {
    let Some(mut browser) = Browser::start() else { return };
    let address = format!("file://{}", report.display());
    for (name, width, height) in [("desktop", 1280, 900), ("phone", 360, 740)] {
        let mut events = browser.open(&address, width, height);
        browser.screenshot(&target().join(format!("{name}.png")));
        let wide = browser.evaluate("document.documentElement.scrollWidth");
        assert_eq!(wide, width, "{name}: scrolls sideways");
        let broken = browser.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).length");
        assert_eq!(broken, 0, "{name}: broken images");
        let sections = browser.evaluate("[...document.querySelectorAll('section')].map(s => s.id).join()");
        assert_eq!(sections, "health,curves,linear,finetune,views,neighbours,projection,settings,recipe");
        assert_eq!(browser.evaluate("document.querySelectorAll('.missing').length"), 0);
        let nameless = "[...document.querySelectorAll('img')].filter(i => !i.alt).length \
            + [...document.querySelectorAll('svg[role=img]')].filter(s => !s.querySelector('title')?.textContent).length";
        assert_eq!(browser.evaluate(nameless), 0, "{name}: pictures without words");
        events.extend(browser.events());
        for event in &events {
            let url = event["params"]["request"]["url"].as_str().unwrap_or("data:");
            assert!(url == address || url.starts_with("data:"), "{name}: the page asks for {url}");
            let method = event["method"].as_str().unwrap_or_default();
            let complaint =
                ["Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Network.loadingFailed"];
            assert!(!complaint.contains(&method), "{name}: {event}");
        }
    }
    // Curves of real values: the loss falls, and its last point is drawn at its value.
    let lines = browser.evaluate(
        "[...document.querySelectorAll('polyline')].map(l => [l.dataset.name, l.points.length, l.getBoundingClientRect().width])",
    );
    for name in ["loss", "output std", "healthy, 1/√dim", "kNN, k=5, T=0.07", "encoder", "predictor", "images/s"] {
        let line = lines.as_array().unwrap().iter().find(|l| l[0] == name).unwrap_or_else(|| panic!("{name}: {lines}"));
        assert!(line[1].as_u64().unwrap() >= 3 && line[2].as_f64().unwrap() > 100.0, "{line}");
    }
    let classifier = browser.evaluate(
        "[...document.querySelectorAll('#linear polyline')].map(l => [l.dataset.name, l.points.length, l.getBoundingClientRect().width > 100])",
    );
    let drawn = |name: &str| json!([name, 4, true]);
    assert_eq!(classifier, json!(["top-1", "top-5", "top-1, untrained encoder", "loss", "classifier"].map(drawn)));
    let tall = browser.evaluate("Math.max(...[...document.querySelectorAll('#linear .chart')].map(c => c.offsetTop)) - document.querySelector('#linear .chart').offsetTop");
    assert!(tall.as_f64().unwrap() > 200.0, "one below the other on a phone: {tall}");
    let count = |browser: &mut Browser, what: &str| {
        browser.evaluate(&format!("document.querySelectorAll('{what}').length")).as_u64().unwrap()
    };
    let said = browser.evaluate("[...document.querySelectorAll('.findings h3')].map(h => h.textContent)");
    for title in ["Output std", "Effective rank", "Explained variance", "Loss", "Number of steps", "kNN accuracy"] {
        assert!(said.as_array().unwrap().contains(&title.into()), "{title}: {said}");
    }
    assert!(!said.as_array().unwrap().contains(&"Published run".into()), "another recipe: {said}");
    assert_eq!(count(&mut browser, ".triple"), 6);
    assert_eq!(count(&mut browser, ".row img"), 4 * 6);
    assert_eq!(count(&mut browser, ".row .right") + count(&mut browser, ".row .wrong"), 4 * 5);
    assert_eq!(count(&mut browser, ".scatter > svg .p"), 50);
    assert_eq!(count(&mut browser, ".scatter .legend li"), 10);
    // The read-out follows the pointer.
    let said = browser.evaluate(
        "(() => { const s = document.querySelector('.chart svg'), r = s.getBoundingClientRect(); \
         s.dispatchEvent(new PointerEvent('pointermove', {clientX: r.right - 2, clientY: r.top + 20})); \
         return s.parentNode.querySelector('output').textContent; })()",
    );
    assert!(said.as_str().unwrap().starts_with("epoch 3: loss −"), "{said}");
}

#[test]
fn report_with_missing_inputs_names_them_and_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = small_run(folder.path());
    let page = folder.path().join("page.html");
    // Nothing was trained: by the file alone, at a place of its own.
    run_ok(&["report", file.write(), "-o", text(&page)]);
    let html = fs::read_to_string(&page).unwrap();
    for said in ["Batch and learning rate", "No measurements", "there is none yet", "view 2"] {
        assert!(html.contains(said), "{said}");
    }
    fs::remove_dir_all(folder.path().join("data")).unwrap();
    run_ok(&["report", "-f", file.write()]);
    assert!(fs::read_to_string(file.output().join("report.html")).unwrap().contains("The images cannot be read"));
}
