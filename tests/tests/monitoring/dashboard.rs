//! Checks of the dashboard that need no Grafana.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::text;

/// Variables that Grafana provides.
const BUILT_IN: [&str; 1] = ["__rate_interval"];

/// Grafana units that suit these values.
const UNITS: [&str; 7] = ["short", "s", "bytes", "bps", "pps", "cps", "percentunit"];

/// One query of the dashboard, with its panel.
#[derive(Clone, Debug)]
pub struct Query {
    /// Title of the panel.
    pub title: String,
    /// PromQL with dashboard variables.
    pub expr: String,
    /// Labels in its legend.
    pub legend: Vec<String>,
}

/// Reads the dashboard.
pub fn load() -> Value {
    serde_json::from_str(&text("monitoring/dashboard.json")).unwrap()
}

/// Returns every query, including those of annotations.
pub fn queries(dashboard: &Value) -> Vec<Query> {
    let query = |title: &Value, target: &Value| Query {
        title: title.as_str().unwrap().to_owned(),
        expr: target["expr"].as_str().unwrap().to_owned(),
        legend: legend(target["legendFormat"].as_str().unwrap_or_default()),
    };
    let notes = list(&dashboard["annotations"]["list"]).iter().map(|note| query(&note["name"], note));
    let panels = list(&dashboard["panels"]).iter();
    let targets =
        panels.flat_map(|panel| list(&panel["targets"]).iter().map(|target| query(&panel["title"], target)));
    notes.chain(targets).collect()
}

/// Returns the query variables: name, metric with matchers, and label.
pub fn variables(dashboard: &Value) -> Vec<(String, String, String)> {
    let all = list(&dashboard["templating"]["list"]).iter().filter(|variable| variable["type"] == "query");
    all.map(|variable| {
        let query = variable["query"]["query"].as_str().unwrap();
        assert_eq!(variable["definition"], query);
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (series, label) = inner.rsplit_once(", ").unwrap();
        (variable["name"].as_str().unwrap().to_owned(), series.to_owned(), label.to_owned())
    })
    .collect()
}

fn legend(format: &str) -> Vec<String> {
    format.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap().to_owned()).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Returns the names of the variables in a query.
fn variables_in(query: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    query
        .split('$')
        .skip(1)
        .map(|rest| &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())])
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn panels_have_unique_ids_and_positions() {
    let dashboard = load();
    let panels = list(&dashboard["panels"]);
    let numbers: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(numbers.len(), panels.len());
    let mut taken = BTreeSet::new();
    let mut top = 0;
    for panel in panels {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        let (x, y, width, height) = (at("x"), at("y"), at("w"), at("h"));
        assert!(width > 0 && height > 0 && x + width <= 24, "{}", panel["title"]);
        for dir in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(taken.insert(dir), "{} overlaps another panel", panel["title"]);
        }
        // In reading order, which Grafana also uses to assign panels to rows.
        assert!(y >= top, "{} is out of order", panel["title"]);
        top = y;
    }
}

#[test]
fn queries_use_the_selected_datasource() {
    fn walk(value: &Value, found: &mut usize) {
        if let Some(source) = value.get("datasource") {
            assert_eq!(source["uid"], "${datasource}", "{value}");
            *found += 1;
        }
        match value {
            Value::Array(all) => all.iter().for_each(|one| walk(one, found)),
            Value::Object(all) => all.values().for_each(|one| walk(one, found)),
            _ => {}
        }
    }
    let dashboard = load();
    let mut found = 0;
    walk(&dashboard, &mut found);
    let charts = list(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row");
    assert_eq!(found, charts.count() + queries(&dashboard).len() + variables(&dashboard).len());
}

#[test]
fn variables_are_defined_and_used() {
    let dashboard = load();
    let mut known: BTreeSet<&str> = BUILT_IN.into();
    let variables = variables(&dashboard);
    for (name, series, label) in &variables {
        assert!(variables_in(series).is_subset(&known), "{name} uses {series}");
        assert_eq!(name, label);
        known.insert(name);
    }
    let queries = queries(&dashboard);
    let all: BTreeSet<&str> = queries.iter().flat_map(|query| variables_in(&query.expr)).collect();
    assert_eq!(all, known, "used and defined variables differ");
    // Every query is limited to the selected instance.
    for Query { title, expr, .. } in &queries {
        assert!(expr.contains("$instance") || expr.contains("ALERTS"), "{title}: {expr}");
    }
}

#[test]
fn panels_are_complete() {
    let dashboard = load();
    assert_eq!(dashboard["uid"], "vpp-maglev");
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39);
    let mut titles = BTreeSet::new();
    let mut row = "";
    for panel in list(&dashboard["panels"]) {
        let title = panel["title"].as_str().unwrap();
        if panel["type"] == "row" {
            row = title;
            continue;
        }
        assert!(titles.insert((row, title)), "{title} comes twice in {row}");
        assert!(["stat", "timeseries", "table"].map(Value::from).contains(&panel["type"]), "{title}");
        let defaults = &panel["fieldConfig"]["defaults"];
        assert!(UNITS.map(Value::from).contains(&defaults["unit"]), "{title}: {}", defaults["unit"]);
        let overrides = list(&panel["fieldConfig"]["overrides"]).iter();
        let properties: Vec<&Value> = overrides.flat_map(|one| list(&one["properties"])).collect();
        for unit in properties.iter().filter(|property| property["id"] == "unit") {
            assert!(UNITS.map(Value::from).contains(&unit["value"]), "{title}: {unit}");
        }
        let thresholds = properties.iter().filter(|property| property["id"] == "thresholds");
        for thresholds in thresholds.map(|property| &property["value"]).chain([&defaults["thresholds"]]) {
            let values: Vec<Option<f64>> =
                list(&thresholds["steps"]).iter().map(|step| step["value"].as_f64()).collect();
            assert!(values.first() == Some(&None) && values.is_sorted(), "{title}: {thresholds}");
        }
        let targets = list(&panel["targets"]);
        let letters: BTreeSet<&str> = targets.iter().map(|t| t["refId"].as_str().unwrap()).collect();
        assert!(!targets.is_empty() && letters.len() == targets.len(), "{title}");
        let legends = targets.iter().filter(|target| target["legendFormat"].is_string()).count();
        assert_eq!(legends == targets.len(), panel["type"] == "timeseries", "{title}");
    }
}
