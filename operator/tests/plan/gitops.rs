//! What tools that apply manifests conclude from a run's status: kstatus' conditions, and the checks in `docs/gitops.md`.

use cel::{Context, Program};
use mlua::{Lua, LuaSerdeExt};
use serde_json::{Value, json};
use simsiam_operator::api::{ConditionStatus, Json, RunPhase};
use simsiam_operator::plan::unreadable_status;

use super::world::{World, spec};

const PAGE: &str = include_str!("../../../docs/gitops.md");

/// What a run looks like to each tool: the condition that is true, Argo CD's health, and Flux's result.
type Health = (Option<String>, String, &'static str);

fn health(world: &World) -> Health {
    let conditions = world.status().conditions;
    for condition in &conditions {
        assert_eq!(Some(condition.observed_generation), world.object.metadata.generation, "{condition:?}");
        assert!(!condition.reason.is_empty(), "{condition:?}");
    }
    let summary = |kind: &&str| conditions.iter().any(|c| c.kind == **kind && c.status == ConditionStatus::True);
    let kinds: Vec<_> = ["Ready", "Reconciling", "Stalled"].iter().filter(|kind| summary(kind)).collect();
    assert!(kinds.len() <= 1, "{kinds:?}");
    let object = serde_json::to_value(&world.object).unwrap();
    (kinds.first().map(|kind| (**kind).to_owned()), argo(&object), flux(&object))
}

/// The health that the page's script returns.
fn argo(object: &Value) -> String {
    let (_, script) = PAGE.split_once("resource.customizations.health.simsiam.dev_SimSiamRun: |\n").unwrap();
    let script = script.split_once("```").unwrap().0;
    let lua = Lua::new();
    lua.globals().set("obj", lua.to_value(object).unwrap()).unwrap();
    let health: mlua::Table = lua.load(script).eval().unwrap();
    assert_ne!(health.get::<String>("message").unwrap(), "");
    health.get("status").unwrap()
}

/// The result of the page's expressions, in the order in which Flux evaluates them.
fn flux(object: &Value) -> &'static str {
    let holds = |name: &str| {
        let expression = PAGE.lines().find_map(|line| line.trim().strip_prefix(&format!("{name}: "))).unwrap();
        let mut context = Context::default();
        for field in ["metadata", "spec", "status"] {
            context.add_variable(field, object[field].clone()).unwrap();
        }
        Program::compile(expression).unwrap().execute(&context).unwrap() == cel::Value::Bool(true)
    };
    ["inProgress", "failed", "current"].into_iter().find(|name| holds(name)).unwrap_or("inProgress")
}

fn is(condition: Option<&str>, health: &str, flux: &'static str) -> Health {
    (condition.map(str::to_owned), health.to_owned(), flux)
}

#[test]
fn run_in_each_state_has_the_conditions_of_kstatus() {
    let mut world = World::new(&spec());
    assert_eq!(argo(&serde_json::to_value(&world.object).unwrap()), "Progressing", "without a status");
    world.step();
    assert_eq!(health(&world), is(Some("Reconciling"), "Progressing", "inProgress"));
    world.run();
    world.reports("training", 10);
    world.step();
    assert_eq!(health(&world), is(Some("Reconciling"), "Progressing", "current"));
    world.set("suspend", json!(true));
    let outdated = serde_json::to_value(&world.object).unwrap();
    assert_eq!((argo(&outdated).as_str(), flux(&outdated)), ("Progressing", "inProgress"), "of another generation");
    world.step();
    assert_eq!(health(&world), is(Some("Reconciling"), "Progressing", "current"), "its pods are being stopped");
    world.cleared();
    world.step();
    assert_eq!(health(&world), is(None, "Suspended", "current"));
    world.set("suspend", json!(false));
    for _ in 0..3 {
        world.step();
        world.after(60);
    }
    assert_eq!(health(&world), is(Some("Reconciling"), "Progressing", "inProgress"));
    for _ in 0..3 {
        world.run();
        world.succeeds(&json!({}));
        world.step();
    }
    assert_eq!(world.status().phase, Some(RunPhase::Succeeded));
    assert_eq!(health(&world), is(Some("Ready"), "Healthy", "current"));
}

#[test]
fn run_that_cannot_go_on_is_stalled() {
    let stalled = is(Some("Stalled"), "Degraded", "failed");
    let mut world = World::training(&spec());
    world.ends(0, 65, &json!({"reason": "BadData", "message": "no images"}));
    world.gives_up_for(0);
    world.step();
    assert_eq!(world.status().phase, Some(RunPhase::Failed));
    assert_eq!(health(&world), stalled);

    let mut world = World::new(&spec());
    world.set("pretrain.epochs", json!(0));
    world.step();
    assert_eq!(health(&world), stalled, "with an invalid spec");

    let mut world = World::training(&spec());
    let mut newer = world.object.status.as_ref().unwrap().value();
    newer["phase"] = json!("Archived");
    world.object.status = Some(Json::from(&newer));
    let status = unreadable_status(&world.object, "unknown phase", world.now);
    assert_eq!(status, unreadable_status(&world.object, "unknown phase", world.now));
    world.object.status = Some(Json::from(&status));
    assert_eq!(argo(&serde_json::to_value(&world.object).unwrap()), "Degraded", "with a status of a newer version");
}

/// An error of the operator is shown where users of these tools look.
#[test]
fn error_of_the_operator_is_shown_while_reconciling() {
    let mut world = World::new(&spec());
    let mut plan = world.step();
    world.refuse(&mut plan, "QuotaExceeded", "exceeded quota: gpus");
    let conditions = &plan.status.conditions;
    let reconciling = conditions.iter().find(|c| c.kind == "Reconciling").unwrap();
    assert_eq!((reconciling.reason.as_str(), reconciling.message.as_str()), ("QuotaExceeded", "exceeded quota: gpus"));
    assert_eq!(reconciling.status, ConditionStatus::True);
}
