//! Bad files and the exact lines they are answered with.

#![allow(clippy::expect_used)] // The helpers here are tests too.

use simsiam_recipe::RunFile;

/// A whole file around the given lines of `spec`; they begin at line 7.
fn with_spec(lines: &str) -> String {
    format!(
        "apiVersion: simsiam.dev/v1alpha1\nkind: SimSiamRun\nmetadata: {{name: a}}\nspec:\n  \
         dataset: {{train: ./a, val: ./b}}\n  output: {{uri: ./out}}\n{lines}\n"
    )
}

fn answer(text: &str) -> String {
    match RunFile::parse(text, "run.yaml") {
        Ok(run) => format!("accepted: {run:?}"),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn refused(spec: &str, expected: &[&str]) {
    assert_eq!(answer(&with_spec(spec)), expected.join("\n"), "\n{spec}");
}

/// One field of `pretrain`, its value, and what is said of it.
#[test]
fn pretrain_field_out_of_range_is_refused() {
    let bits = "must be between 0 and 1";
    for (field, value, expected) in [
        ("epochs", "0", "must be between 1 and 100000"),
        ("epochs", "-1", "must be between 1 and 100000"),
        ("batchSize", "0", "must be between 2 and 1048576"),
        ("batchSize", "1", "must be between 2 and 1048576"),
        ("batchSize", "4294967297", "must be between 2 and 1048576"),
        ("lr", "0", "must be above 0 and at most 1000"),
        ("lr", "-0.1", "must be above 0 and at most 1000"),
        ("lr", "1001", "must be above 0 and at most 1000"),
        ("momentum", "1", "must be at least 0 and below 1"),
        ("momentum", "-0.5", "must be at least 0 and below 1"),
        ("weightDecay", "-0.0001", bits),
        ("warmupEpochs", "-1", "must be between 0 and 100000"),
        ("warmupEpochs", "101", "must be at most epochs (100)"),
        ("seed", "-1", "must be between 0 and 9007199254740991"),
        ("seed", "9007199254740992", "must be between 0 and 9007199254740991"),
        ("seed", "18446744073709551615", "must be between 0 and 9007199254740991"),
        ("accumulate", "0", "must be between 1 and 4096"),
        ("accumulate", "5000", "must be between 1 and 4096"),
        ("accumulate", "3", "must divide batchSize (512) into micro-batches of 2 images or more"),
        ("accumulate", "512", "must divide batchSize (512) into micro-batches of 2 images or more"),
        ("baseWidth", "3", "must be between 4 and 1024"),
        ("dim", "1", "must be between 2 and 65536"),
        ("predDim", "0", "must be between 1 and 65536"),
        ("epochs", "true", "must be of type integer, not boolean"),
        ("epochs", "1.5", "must be of type integer, not number"),
        ("batchSize", "[1]", "must be of type integer, not array"),
        ("fixPredLr", "1", "must be of type boolean, not integer: write true or false"),
        ("augment", "7", "must be of type object, not integer"),
    ] {
        let line = format!("run.yaml:8:5: spec.pretrain.{field}: Invalid value: {value}: {expected}");
        refused(&format!("  pretrain:\n    {field}: {value}"), &[&line]);
    }
}

#[test]
fn nested_field_out_of_range_is_refused() {
    let bits = "must be between 0 and 1";
    let area = "must be above 0 and at most 1";
    for (field, value, expected) in [
        ("projector.layers", "1", "must be 2 or 3"),
        ("projector.layers", "4", "must be 2 or 3"),
        ("projector.hiddenDim", "0", "must be between 1 and 65536"),
        ("augment.cropSize", "7", "must be between 8 and 1024"),
        ("augment.minScale", "0", area),
        ("augment.maxScale", "1.5", area),
        ("augment.maxScale", "0", area),
        ("augment.jitterProb", "-0.1", bits),
        ("augment.grayscaleProb", "1.1", bits),
        ("augment.blurProb", "2", bits),
        ("augment.flipProb", "-1", bits),
        ("augment.verticalFlipProb", "1.5", bits),
        ("augment.quarterTurnProb", "-0.1", bits),
        ("augment.solarizeProb", "20", bits),
        ("augment.solarizeThreshold", "-1", "must be between 0 and 255"),
        ("augment.solarizeThreshold", "256", "must be between 0 and 255"),
        ("augment.solarizeThreshold", "0.5", "must be of type integer, not number"),
        ("augment.secondView", "0.1", "must be of type object, not number"),
        ("augment.brightness", "-1", "must be between 0 and 10"),
        ("augment.contrast", "11", "must be between 0 and 10"),
        ("augment.saturation", "-1", "must be between 0 and 10"),
        ("augment.hue", "0.6", "must be between 0 and 0.5"),
        ("augment.blurSigma", "[2,1]", "must be two numbers above 0 and at most 100, the smaller first"),
        ("augment.blurSigma", "[1]", "must have 2 entries, not 1"),
        ("augment.mean", "[0,0,2]", "must be numbers between 0 and 1"),
        ("augment.std", "[0,1,1]", "must be numbers above 0 and at most 10"),
        ("augment.evalResize", "223", "must be at least cropSize (224)"),
        ("augment.evalResize", "5000", "must be between 8 and 4096"),
        ("collapse.patienceSteps", "0", "must be between 1 and 1000000000"),
        ("collapse.threshold", "0", area),
    ] {
        let (object, name) = field.split_once('.').expect("a nested field");
        let spec = format!("  pretrain:\n    {object}:\n      {name}: {value}");
        let line = format!("run.yaml:9:7: spec.pretrain.{field}: Invalid value: {value}: {expected}");
        refused(&spec, &[&line]);
    }
}

#[test]
fn second_view_out_of_range_is_refused() {
    let bits = "must be between 0 and 1";
    for field in
        ["jitterProb", "grayscaleProb", "blurProb", "solarizeProb", "flipProb", "verticalFlipProb", "quarterTurnProb"]
    {
        let spec = format!("  pretrain:\n    augment:\n      secondView:\n        {field}: 1.1");
        let line = format!("run.yaml:10:9: spec.pretrain.augment.secondView.{field}: Invalid value: 1.1: {bits}");
        refused(&spec, &[&line]);
    }
    refused(
        "  pretrain:\n    augment:\n      secondView: {solariseProb: 0.2, cropSize: 96}",
        &[
            "run.yaml:9:20: spec.pretrain.augment.secondView.solariseProb: Unknown field: did you mean \"solarizeProb\"?",
            "run.yaml:9:39: spec.pretrain.augment.secondView.cropSize: Unknown field: did you mean spec.pretrain.augment.cropSize?",
        ],
    );
}

#[test]
fn stage_field_out_of_range_is_refused() {
    for (section, field, value, expected) in [
        ("knn", "everyEpochs", "-1", "must be between 0 and 100000"),
        ("knn", "batchSize", "0", "must be between 1 and 65536"),
        ("knn", "protocols", "[]", "must have 1 to 8 entries, not 0"),
        ("linear", "epochs", "0", "must be between 1 and 100000"),
        ("linear", "batchSize", "0", "must be between 1 and 1048576"),
        ("linear", "lr", "0", "must be above 0 and at most 1000"),
        ("linear", "momentum", "1", "must be at least 0 and below 1"),
        ("linear", "weightDecay", "-1", "must be between 0 and 1"),
        ("linear", "trustCoefficient", "0", "must be above 0 and at most 1"),
        ("linear", "minScale", "0", "must be above 0 and at most 1"),
        ("linear", "seed", "-1", "must be between 0 and 9007199254740991"),
        ("finetune", "fraction", "0", "must be above 0 and at most 1"),
        ("finetune", "epochs", "0", "must be between 1 and 100000"),
        ("finetune", "batchSize", "1", "must be between 2 and 1048576"),
        ("finetune", "lr", "0", "must be above 0 and at most 1000"),
        ("finetune", "classifierLr", "0", "must be above 0 and at most 1000"),
        ("finetune", "momentum", "1", "must be at least 0 and below 1"),
        ("finetune", "weightDecay", "-1", "must be between 0 and 1"),
        ("finetune", "minScale", "2", "must be above 0 and at most 1"),
        ("finetune", "seed", "-1", "must be between 0 and 9007199254740991"),
        ("checkpoint", "everySteps", "0", "must be between 1 and 1000000000"),
        ("checkpoint", "everyEpochs", "-1", "must be between 0 and 100000"),
        ("checkpoint", "keepLast", "0", "must be between 1 and 1000"),
        ("checkpoint", "keepEveryEpochs", "-1", "must be between 0 and 100000"),
        ("workers", "threadsPerRank", "0", "must be between 1 and 1024"),
    ] {
        let spec = format!("  {section}:\n    {field}: {value}\n  pretrain: {{}}");
        let line = format!("run.yaml:8:5: spec.{section}.{field}: Invalid value: {value}: {expected}");
        refused(&spec, &[&line]);
    }
    refused(
        "  knn:\n    protocols:\n      - {k: 0, temperature: 0}\n      - {k: 4}",
        &[
            "run.yaml:9:10: spec.knn.protocols[0].k: Invalid value: 0: must be between 1 and 1000000",
            "run.yaml:9:16: spec.knn.protocols[0].temperature: Invalid value: 0: must be above 0 and at most 100",
            "run.yaml:10:9: spec.knn.protocols[1].temperature: Required value",
        ],
    );
}

/// A list's entry is the user's own, not a default.
#[test]
fn bad_list_entry_is_named_by_index() {
    refused(
        "  knn: {protocols: [{k: 20, temperature: 1}, {k: 0, temperature: 101}]}",
        &[
            "run.yaml:7:47: spec.knn.protocols[1].k: Invalid value: 0: must be between 1 and 1000000",
            "run.yaml:7:53: spec.knn.protocols[1].temperature: Invalid value: 101: must be above 0 and at most 100",
        ],
    );
}

#[test]
fn bad_tracker_is_refused_and_its_password_is_not_repeated() {
    let with = |mlflow: &str| {
        answer(&format!(
            "apiVersion: simsiam.dev/v1alpha1\nkind: SimSiamRun\nmetadata: {{name: a}}\nspec:\n  dataset: {{train: ./a}}\n  \
             output: {{uri: ./o}}\n  pretrain: {{}}\n  track: {{mlflow: {{{mlflow}}}}}\n"
        ))
    };
    for good in
        ["uri: \"http://localhost:5000\"", "uri: \"https://host/a/b/\", experiment: a/b c, credentialsSecret: x"]
    {
        assert!(with(good).starts_with("accepted"), "{}", with(good));
    }
    let address = "must be http://host:port or https://host:port, with a path if the server has one";
    for (bad, expected) in [
        ("uri: host", format!("spec.track.mlflow.uri: Invalid value: \"host\": {address}")),
        ("uri: \"http://h/?a=b\"", format!("spec.track.mlflow.uri: Invalid value: \"http://h/?a=b\": {address}")),
        (
            "uri: \"http://user:hunter2@host\"",
            "spec.track.mlflow.uri: Required value: an address without user name and password: locally set \
             MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment, on a cluster name a Secret in \
             credentialsSecret"
                .into(),
        ),
        (
            "uri: \"http://h\", experiment: \" a\"",
            "spec.track.mlflow.experiment: Invalid value: \" a\": must be a name that neither begins nor ends with a space"
                .into(),
        ),
        (
            "uri: \"http://h\", credentialsSecret: Foo",
            "spec.track.mlflow.credentialsSecret: Invalid value: \"Foo\": must be the name of a Secret: lower-case \
             letters, digits, - and ."
                .into(),
        ),
        ("experiment: a", "spec.track.mlflow.uri: Required value".into()),
    ] {
        let found = with(bad);
        let (_, message) = found.split_once("spec.").unwrap();
        assert_eq!(format!("spec.{message}"), expected, "{found}");
        assert!(!found.contains("hunter2"), "{found}");
    }
}

#[test]
fn invalid_address_is_refused() {
    const SCHEMES: &str = "must be a path, file:///path, s3://bucket/prefix, gs://bucket/prefix, \
                           az://container/prefix or pvc://claim/path";
    let head = "apiVersion: simsiam.dev/v1alpha1\nkind: SimSiamRun\nmetadata: {name: a}\nspec:\n  \
                pretrain: {}\n";
    for bad in [
        "",
        "http://x/y",
        "file://x",
        "file:///",
        "s3:/b/x",
        "s3://",
        "s3:///x",
        "S3://b",
        "pvc://",
        "pvc:///x",
        "hdfs://x",
    ] {
        let text = format!("{head}  dataset: {{train: ./a}}\n  output: {{uri: {bad:?}}}\n");
        let line = format!("run.yaml:7:12: spec.output.uri: Invalid value: {bad:?}: {SCHEMES}");
        assert_eq!(answer(&text), line);
    }
    for good in [
        ".",
        "./a b",
        "/data",
        "~/x",
        "file:///a",
        "s3://b",
        "s3://b/x/y",
        "gs://b/x",
        "az://c/x",
        "pvc://claim",
        "pvc://claim/x/y",
    ] {
        let text = format!("{head}  dataset: {{train: {good:?}}}\n  output: {{uri: {good:?}}}\n");
        assert!(answer(&text).starts_with("accepted"), "{}", answer(&text));
    }
    let text = format!(
        "{head}  dataset: {{train: ./a, maxCorrupt: -1, loaderThreads: 0}}\n  \
         output: {{uri: ./o, endpoint: s3.foo, credentialsSecret: Foo, region: \"a b\"}}\n"
    );
    let expected = [
        "run.yaml:6:25: spec.dataset.maxCorrupt: Invalid value: -1: must be between 0 and 1000000000",
        "run.yaml:6:41: spec.dataset.loaderThreads: Invalid value: 0: must be between 1 and 1024",
        "run.yaml:7:22: spec.output.endpoint: Invalid value: \"s3.foo\": must be http://host:port or https://host:port",
        "run.yaml:7:40: spec.output.credentialsSecret: Invalid value: \"Foo\": must be the name of a Secret: lower-case letters, digits, - and .",
        "run.yaml:7:64: spec.output.region: Invalid value: \"a b\": must be letters, digits and -",
    ];
    assert_eq!(answer(&text), expected.join("\n"));
    let text = format!(
        "{head}  dataset:\n    train: ./a\n    decode: quick\n    endpoint: s3.foo\n    \
         pack: {{maxSide: 8, shortSide: 9, quality: 0}}\n    cache: {{sizeLimit: lots}}\n  output: {{uri: ./o}}\n"
    );
    let found = answer(&text);
    for expected in [
        "run.yaml:8:5: spec.dataset.decode: Unsupported value: \"quick\"",
        "run.yaml:9:5: spec.dataset.endpoint: Invalid value: \"s3.foo\": must be http://host:port or https://host:port",
        "run.yaml:10:12: spec.dataset.pack.maxSide: Invalid value: 8: must be between 16 and 65500",
        "run.yaml:10:24: spec.dataset.pack.shortSide: Invalid value: 9: must be between 16 and 65500",
        "run.yaml:10:24: spec.dataset.pack.shortSide: Invalid value: 9: must not be set when maxSide is set (8)",
        "run.yaml:10:38: spec.dataset.pack.quality: Invalid value: 0: must be between 1 and 100",
        "run.yaml:11:13: spec.dataset.cache.sizeLimit: Invalid value: \"lots\": must be a number of bytes such as 200Gi",
    ] {
        assert!(found.contains(expected), "{expected} is not in\n{found}");
    }
    let text = format!("{head}  dataset: {{train: ./a}}\n  output: {{uri: ./o}}\n  weights: http://x/y.pth\n");
    let line = format!("run.yaml:8:3: spec.weights: Invalid value: \"http://x/y.pth\": {SCHEMES}");
    assert_eq!(answer(&text), line);
    let long = format!("{head}  dataset: {{train: ./a}}\n  output: {{uri: {}}}\n", "x".repeat(1025));
    assert!(answer(&long).ends_with("x…: must be at most 1024 characters, not 1025"), "{}", answer(&long));
}

#[test]
fn contradictory_fields_are_refused() {
    refused(
        "  pretrain:\n    arch: wide_resnet50_2\n    baseWidth: 16\n    epochs: 10\n    warmupEpochs: 20\n    \
         augment: {minScale: 0.9, maxScale: 0.2}",
        &[
            "run.yaml:9:5: spec.pretrain.baseWidth: Invalid value: 16: must be 64 with arch wide_resnet50_2 (only resnet18 to resnet152 support another width)",
            "run.yaml:11:5: spec.pretrain.warmupEpochs: Invalid value: 20: must be at most epochs (10)",
            "run.yaml:12:15: spec.pretrain.augment.minScale: Invalid value: 0.9: must be at most maxScale (0.2)",
        ],
    );
    refused(
        "  export: [pth]",
        &[
            "run.yaml:4:1: spec.pretrain: Required value: nothing to do: set at least one of pretrain, knn, linear and finetune",
        ],
    );
    assert_eq!(
        answer(&with_spec("  knn: {}\n  linear: {}\n  finetune: {}").replace(", val: ./b", "")),
        "run.yaml:5:3: spec.dataset.val: Required value: knn needs labelled validation images\n\
         run.yaml:5:3: spec.dataset.val: Required value: linear needs labelled validation images\n\
         run.yaml:5:3: spec.dataset.val: Required value: finetune needs labelled validation images"
    );
}

#[test]
fn alternation_with_other_options_is_refused() {
    const EITHER: &str = "Required value: set either steps, as in {steps: 100}, or {epoch: true}";
    for (alternation, expected) in [
        ("{}", format!("run.yaml:7:14: spec.pretrain.alternation.steps: {EITHER}")),
        ("{epoch: false}", format!("run.yaml:7:14: spec.pretrain.alternation.steps: {EITHER}")),
        (
            "{steps: 0}",
            "run.yaml:7:28: spec.pretrain.alternation.steps: Invalid value: 0: must be between 1 and 1000000000"
                .to_owned(),
        ),
        (
            "{steps: 10, epoch: true}",
            "run.yaml:7:28: spec.pretrain.alternation.steps: Invalid value: 10: must not be set when epoch is true"
                .to_owned(),
        ),
        (
            "{step: 10}",
            "run.yaml:7:28: spec.pretrain.alternation.step: Unknown field: did you mean \"steps\"?".to_owned(),
        ),
        (
            "{steps: 10}, ablation: crossEntropy",
            "run.yaml:7:40: spec.pretrain.ablation: Invalid value: \"crossEntropy\": must be none when alternation is set"
                .to_owned(),
        ),
    ] {
        let found = answer(&with_spec(&format!("  pretrain: {{alternation: {alternation}}}")));
        assert!(found.contains(&expected), "{expected} is not in\n{found}");
    }
    for good in ["{steps: 1}", "{epoch: true}", "{steps: 100, epoch: false}, ablation: none"] {
        let answer = answer(&with_spec(&format!("  pretrain: {{alternation: {good}}}")));
        assert!(answer.starts_with("accepted"), "{good}: {answer}");
    }
    refused(
        "  pretrain: {ablation: noPredictors}",
        &[
            "run.yaml:7:14: spec.pretrain.ablation: Unsupported value: \"noPredictors\": supported values: \"none\", \"noStopGradient\", \"noPredictor\", \"fixedPredictor\", \"batchNormNone\", \"batchNormHidden\", \"batchNormAll\", \"crossEntropy\", \"asymmetric\", \"asymmetricDouble\"; did you mean \"noPredictor\"?",
        ],
    );
}

/// A value that the user did not write says where it came from.
#[test]
fn violation_from_preset_or_default_names_it() {
    refused(
        "  pretrain:\n    preset: cifar10\n    augment: {cropSize: 64}\n    warmupEpochs: 900",
        &[
            "run.yaml:9:5: spec.pretrain.augment.evalResize: Invalid value: 32: must be at least cropSize (64) (from preset cifar10)",
            "run.yaml:10:5: spec.pretrain.warmupEpochs: Invalid value: 900: must be at most epochs (800)",
        ],
    );
    refused(
        "  pretrain:\n    preset: cifar10\n    augment: {preset: medical, maxScale: 0.4, cropSize: 64}",
        &[
            "run.yaml:9:5: spec.pretrain.augment.minScale: Invalid value: 0.5: must be at most maxScale (0.4) (from preset medical)",
            "run.yaml:9:5: spec.pretrain.augment.evalResize: Invalid value: 32: must be at least cropSize (64) (from preset cifar10)",
        ],
    );
    refused(
        "  pretrain:\n    augment: {preset: arial}",
        &[
            "run.yaml:8:15: spec.pretrain.augment.preset: Unsupported value: \"arial\": supported values: \"aerial\", \"microscopy\", \"medical\"; did you mean \"aerial\"?",
        ],
    );
    refused(
        "  pretrain:\n    augment: {maxScale: 0.1}",
        &[
            "run.yaml:8:5: spec.pretrain.augment.minScale: Invalid value: 0.2: must be at most maxScale (0.1) (the default)",
        ],
    );
}

#[test]
fn report_field_out_of_range_is_refused() {
    refused(
        "  pretrain: {}\n  report: {views: 49, queries: -1, bank: 9, points: 5001}",
        &[
            "run.yaml:8:12: spec.report.views: Invalid value: 49: must be between 0 and 48",
            "run.yaml:8:23: spec.report.queries: Invalid value: -1: must be between 0 and 48",
            "run.yaml:8:36: spec.report.bank: Invalid value: 9: must be between 10 and 1000000",
            "run.yaml:8:45: spec.report.points: Invalid value: 5001: must be between 10 and 5000",
        ],
    );
}

#[test]
fn unknown_field_gets_suggestion() {
    refused(
        "  worker: {nodes: 3}\n  momentum: 3\n  frobnicate: 1\n  pretrain:\n    epoch: 3\n    batch_size: 5\n    \
         cropSize: 3\n    learning_rate: 3\n    zzz: 3",
        &[
            "run.yaml:7:3: spec.worker: Unknown field: did you mean \"workers\"?",
            "run.yaml:8:3: spec.momentum: Unknown field: did you mean spec.finetune.momentum or spec.linear.momentum or spec.pretrain.momentum?",
            "run.yaml:9:3: spec.frobnicate: Unknown field: known fields: checkpoint, dataset, export, finetune, knn, linear, output, pretrain, report, track, weights, activeDeadline, image, imagePullPolicy, imagePullSecrets, managedBy, priorityClassName, queueName, restartPolicy, suspend, terminationGracePeriodSeconds, ttl, workers, workloadPriorityClassName",
            "run.yaml:11:5: spec.pretrain.epoch: Unknown field: did you mean \"epochs\"?",
            "run.yaml:12:5: spec.pretrain.batch_size: Unknown field: did you mean \"batchSize\"?",
            "run.yaml:13:5: spec.pretrain.cropSize: Unknown field: did you mean spec.pretrain.augment.cropSize?",
            "run.yaml:14:5: spec.pretrain.learning_rate: Unknown field: did you mean \"lr\"?",
            "run.yaml:15:5: spec.pretrain.zzz: Unknown field: known fields: ablation, accumulate, alternation, arch, augment, baseWidth, batchSize, collapse, dim, epochs, fixPredLr, lr, momentum, precision, predDim, preset, projector, schedule, seed, stem, warmupEpochs, weightDecay",
        ],
    );
    refused(
        "  pretrain: {arch: resnet51, precision: fp16}\n  linear: {preset: linear-larss}\n  export: [pth, pth, gguf]",
        &[
            "run.yaml:7:14: spec.pretrain.arch: Unsupported value: \"resnet51\": supported values: \"resnet18\", \"resnet34\", \"resnet50\", \"resnet101\", \"resnet152\", \"wide_resnet50_2\", \"wide_resnet101_2\", \"resnext50_32x4d\", \"resnext101_32x8d\", \"resnext101_64x4d\"; did you mean \"resnet50\"?",
            "run.yaml:7:30: spec.pretrain.precision: Unsupported value: \"fp16\": supported values: \"fp32\", \"bf16\"",
            "run.yaml:8:12: spec.linear.preset: Unsupported value: \"linear-larss\": supported values: \"linear-lars\", \"linear-paper\", \"linear-sgd\"; did you mean \"linear-lars\"?",
            "run.yaml:9:17: spec.export[1]: Duplicate value: \"pth\"",
            "run.yaml:9:22: spec.export[2]: Unsupported value: \"gguf\": supported values: \"safetensors\", \"torchvision\", \"timm\", \"detectron2\", \"pth\", \"onnx\", \"onnxWithNormalization\", \"huggingface\"",
        ],
    );
}

#[test]
fn huggingface_export_of_an_unpublished_network_is_refused() {
    let because =
        "huggingface needs stem imagenet and baseWidth 64: timm has no other ResNets; export onnx or safetensors";
    for pretrain in ["{stem: cifar}", "{preset: cifar10}", "{baseWidth: 32}"] {
        refused(
            &format!("  pretrain: {pretrain}\n  export: [onnx, huggingface]"),
            &[&format!("run.yaml:8:3: spec.export: Invalid value: [\"onnx\",\"huggingface\"]: {because}")],
        );
    }
}

#[test]
fn value_of_wrong_type_is_refused() {
    refused(
        "  pretrain:\n    lr: \"0.1\"\n    epochs: ten\n    momentum: .inf\n    weightDecay: .nan\n    arch: 50\n    batchSize: 0",
        &[
            "run.yaml:8:5: spec.pretrain.lr: Invalid value: \"0.1\": must be of type number, not string: leave out the quotes",
            "run.yaml:9:5: spec.pretrain.epochs: Invalid value: \"ten\": must be of type integer, not string",
            "run.yaml:10:5: spec.pretrain.momentum: Invalid value: \"inf\": must be a finite number",
            "run.yaml:11:5: spec.pretrain.weightDecay: Invalid value: \"NaN\": must be a finite number",
            "run.yaml:12:5: spec.pretrain.arch: Invalid value: 50: must be of type string, not integer: put it in quotes",
            "run.yaml:13:5: spec.pretrain.batchSize: Invalid value: 0: must be between 2 and 1048576",
        ],
    );
    refused("  pretrain: 5", &["run.yaml:7:3: spec.pretrain: Invalid value: 5: must be of type object, not integer"]);
}

#[test]
fn document_that_is_not_a_run_is_refused() {
    const SHAPE: &str = "run.yaml: (document): Required value: a run file has \
                         apiVersion: simsiam.dev/v1alpha1, kind: SimSiamRun, metadata and spec";
    const NAME: &str = "must be at most 40 lower-case letters, digits and -, beginning with a letter and ending with a \
                        letter or digit (a DNS-1035 label)";
    let good = with_spec("  pretrain: {}");
    for (text, expected) in [
        ("- a\n".to_owned(), SHAPE.to_owned()),
        (String::new(), SHAPE.to_owned()),
        ("just text".to_owned(), SHAPE.to_owned()),
        ("a: b\n c: d".to_owned(), "run.yaml:2:3: YAML: mapping values are not allowed in this context".to_owned()),
        ("a: 1\na: 2".to_owned(), "run.yaml:2:1: YAML: duplicate mapping key `a` is not allowed here".to_owned()),
        (
            format!("{good}---\na: c\n"),
            "run.yaml:9:1: YAML: only single YAML document expected but multiple found".to_owned(),
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {nam: x}\nspecs: {}\n".to_owned(),
            "run.yaml:1:1: apiVersion: Unsupported value: \"v1\": must be simsiam.dev/v1alpha1\n\
             run.yaml:2:1: kind: Unsupported value: \"Pod\": must be SimSiamRun\n\
             run.yaml:3:1: metadata.name: Required value\n\
             run.yaml:3:12: metadata.nam: Unknown field: did you mean \"name\"?\n\
             run.yaml:4:1: specs: Unknown field: did you mean \"spec\"?\n\
             run.yaml: spec: Required value"
                .to_owned(),
        ),
        (
            good.replace("name: a", "name: 5"),
            "run.yaml:3:12: metadata.name: Invalid value: 5: must be of type string: put it in quotes".to_owned(),
        ),
        (
            good.replace("name: a", "name: Foo_Bar"),
            format!("run.yaml:3:12: metadata.name: Invalid value: \"Foo_Bar\": {NAME}"),
        ),
        (
            good.replace("name: a", &format!("name: {}", "a".repeat(41))),
            format!("run.yaml:3:12: metadata.name: Invalid value: \"{}\": {NAME}", "a".repeat(41)),
        ),
    ] {
        assert_eq!(answer(&text), expected, "\n{text}");
    }
    assert!(answer(&good.replace("name: a", &format!("name: {}", "a".repeat(40)))).starts_with("accepted"));
}

/// Aliases that multiply are stopped by the parser's budget.
#[test]
fn alias_bomb_is_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..12 {
        let before = format!("*a{}, ", n - 1).repeat(10);
        text.push_str(&format!("a{n}: &a{n} [{before}]\n"));
    }
    let started = std::time::Instant::now();
    assert!(answer(&text).starts_with("run.yaml:"), "{}", answer(&text));
    assert!(started.elapsed().as_secs() < 10);
}

#[test]
fn unreadable_file_is_named() {
    let missing = RunFile::load(std::path::Path::new("no/such.yaml")).expect_err("missing");
    assert_eq!(missing.to_string(), "no/such.yaml: cannot be read: No such file or directory (os error 2)");
    let path = std::env::temp_dir().join(format!("simsiam-recipe-{}.yaml", std::process::id()));
    std::fs::write(&path, vec![b' '; (1 << 20) + 1]).expect("written");
    let large = RunFile::load(&path).expect_err("too large").to_string();
    std::fs::remove_file(&path).expect("removed");
    assert!(large.contains("has 1048577 bytes; a run file has at most 1048576"), "{large}");
}

#[test]
fn probe_and_image_key_are_checked() {
    let answer = |dataset: &str| {
        let text = format!(
            "apiVersion: simsiam.dev/v1alpha1\nkind: SimSiamRun\nmetadata: {{name: a}}\nspec:\n  \
             dataset: {{train: ./a, {dataset}}}\n  output: {{uri: ./out}}\n  knn: {{}}\n"
        );
        answer(&text)
    };
    assert!(answer("probe: {train: ./b, val: ./c}, imageKey: left.jpg").starts_with("accepted: "));
    let message = answer("probe: {train: ./b}");
    assert!(message.contains("spec.dataset.probe.val: Required value"), "{message}");
    let message = answer("probe: {train: 'ftp://b', val: ./c}");
    assert!(message.contains("spec.dataset.probe.train") && message.contains("must be a path"), "{message}");
    let message = answer("val: ./b, probe: {train: ./b, val: ./c}");
    assert!(message.contains("spec.dataset.val") && message.contains("must not be set when probe is set"), "{message}");
    for (dataset, field, expected) in [
        ("range: {mode: fixed, low: 3}", "range.high", "must be set with mode fixed or percentiles"),
        ("range: {mode: percentiles, high: 99}", "range.low", "must be set with mode fixed or percentiles"),
        ("range: {low: 3}", "range.low", "must not be set without mode fixed or percentiles"),
        ("range: {mode: pillow, high: 3}", "range.high", "must not be set without mode fixed or percentiles"),
        ("range: {mode: fixed, low: 3, high: 3}", "range.low", "Invalid value: 3: must be below high (3)"),
        (
            "range: {mode: percentiles, low: -1, high: 9}",
            "range.low",
            "Invalid value: -1: must be a percentile from 0 to 100",
        ),
        (
            "range: {mode: percentiles, low: 1, high: 101}",
            "range.high",
            "Invalid value: 101: must be a percentile from 0 to 100",
        ),
        ("range: {mode: fixed, low: 0, high: 1e13}", "range.high", "must be between -1000000000000 and 1000000000000"),
        ("range: {mode: full}", "range.mode", "\"auto\", \"pillow\", \"fixed\", \"percentiles\""),
        ("pages: last", "pages", "\"first\", \"all\""),
    ] {
        let message = answer(&format!("val: ./b, {dataset}"));
        assert!(message.contains(&format!("spec.dataset.{field}")) && message.contains(expected), "{message}");
    }
    let good = "val: ./b, pages: all, range: {mode: fixed, low: -1000, high: 3000}";
    assert!(answer(good).starts_with("accepted: "), "{}", answer(good));
    let message = answer("val: ./b, imageKey: .jpg");
    assert!(message.contains("spec.dataset.imageKey") && message.contains("without the first dot"), "{message}");
}

#[test]
fn columns_of_parquet_files_are_checked() {
    let answer = |dataset: &str| {
        let text = format!(
            "apiVersion: simsiam.dev/v1alpha1\nkind: SimSiamRun\nmetadata: {{name: a}}\nspec:\n  \
             dataset: {{train: ./a, val: ./b, {dataset}}}\n  output: {{uri: ./out}}\n  knn: {{}}\n"
        );
        answer(&text)
    };
    assert!(answer("imageColumn: img, labelColumn: 'fine label (ä)'").starts_with("accepted: "));
    for field in ["imageColumn", "labelColumn"] {
        for value in ["''", "\"a\\tb\""] {
            let message = answer(&format!("{field}: {value}"));
            assert!(message.contains(&format!("spec.dataset.{field}")), "{message}");
            assert!(message.contains("must be the name of a column"), "{message}");
        }
        let message = answer(&format!("{field}: {}", "x".repeat(257)));
        assert!(message.contains(&format!("spec.dataset.{field}")) && message.contains("256"), "{message}");
    }
}
/// A whole file with these fields of `dataset` and of `augment`.
fn with_channels(dataset: &str, augment: &str) -> String {
    answer(&format!(
        "apiVersion: simsiam.dev/v1alpha1\nkind: SimSiamRun\nmetadata: {{name: a}}\nspec:\n  \
         dataset: {{train: ./a, {dataset}}}\n  output: {{uri: ./out}}\n  pretrain: {{augment: {{{augment}}}}}\n"
    ))
}

#[test]
fn number_of_channels_out_of_range_is_refused() {
    for channels in ["0", "33", "-1"] {
        let expected =
            format!("run.yaml:5:25: spec.dataset.channels: Invalid value: {channels}: must be between 1 and 32");
        assert_eq!(with_channels(&format!("channels: {channels}"), ""), expected);
    }
    let packed = with_channels("channels: 5, pack: {maxSide: 400}", "");
    assert!(packed.contains("spec.dataset.pack: ") && packed.contains("are packed as they are"), "{packed}");
    assert!(with_channels("channels: 5, pack: {}", "").starts_with("accepted: "));
    assert!(with_channels("channels: 3, pack: {maxSide: 400}", "").starts_with("accepted: "));
}

#[test]
fn augmentation_that_needs_rgb_is_refused_for_other_channels() {
    for (field, value, why) in [
        ("saturation", "0.4", "must be 0 unless dataset.channels is 3: saturation is defined for RGB images only"),
        ("hue", "0.1", "must be 0 unless dataset.channels is 3: hue is defined for RGB images only"),
        (
            "grayscaleProb",
            "0.2",
            "must be 0 unless dataset.channels is 3: conversion to grayscale is defined for RGB images only",
        ),
        (
            "device",
            "gpu",
            "must be cpu unless dataset.channels is 3: the augmentation on the device is written for RGB images",
        ),
    ] {
        let augment = format!("{field}: {value}");
        let quoted = if field == "device" { format!("{value:?}") } else { value.to_owned() };
        let expected = format!("run.yaml:7:24: spec.pretrain.augment.{field}: Invalid value: {quoted}: {why}");
        for channels in ["1", "5"] {
            assert_eq!(with_channels(&format!("channels: {channels}"), &augment), expected);
        }
        assert!(with_channels("channels: 3", &augment).starts_with("accepted: "), "{augment}");
        assert!(with_channels("channels: 5", "saturation: 0, hue: 0, grayscaleProb: 0").starts_with("accepted: "));
    }
    let second = with_channels("channels: 5", "secondView: {grayscaleProb: 0.1}");
    assert!(second.contains("spec.pretrain.augment.secondView.grayscaleProb: ") && second.contains("RGB"), "{second}");
    for augment in ["preset: aerial", "secondView: {grayscaleProb: 0, solarizeProb: 0.2}"] {
        assert!(with_channels("channels: 5", augment).starts_with("accepted: "), "{augment}");
    }
}

#[test]
fn mean_and_std_need_one_number_per_channel() {
    for (channels, augment, expected) in [
        (
            "channels: 5",
            "mean: [0.1, 0.2, 0.3]",
            "mean: Invalid value: [0.1,0.2,0.3]: must have one number for each of the 5 channels of dataset.channels",
        ),
        (
            "channels: 3",
            "std: [0.1, 0.2]",
            "std: Invalid value: [0.1,0.2]: must have one number for each of the 3 channels of dataset.channels",
        ),
        (
            "maxCorrupt: 0",
            "mean: [0.5]",
            "mean: Invalid value: [0.5]: must have one number for each of the 3 channels of dataset.channels",
        ),
        ("channels: 1", "std: []", "std: Invalid value: []: must have 1 to 32 entries, not 0"),
    ] {
        let expected = format!("run.yaml:7:24: spec.pretrain.augment.{expected}");
        assert_eq!(with_channels(channels, augment), expected);
    }
    assert!(with_channels("channels: 2", "mean: [0.1, 0.2], std: [0.3, 0.4]").starts_with("accepted: "));
}
