//! The reference document of Docker's API, and whether a reply is as it says.
//!
//! The document is beside the repository (`../shared/reference`) or where `GANTRY_REFERENCE` says; a test
//! without it says so and is counted as skipped. What is checked: types, required keys, enumerations,
//! and that no key is there that the document does not know. `null` is taken for lists and objects that
//! do not forbid it, because Go writes it for an empty one, and for anything that is `x-nullable`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

/// The document.
#[derive(Debug)]
pub struct Reference(Value);

impl Reference {
    /// Reads the document; `None`, and a line about it, where there is none.
    ///
    /// # Panics
    /// It is there and cannot be read.
    #[must_use]
    pub fn load() -> Option<Self> {
        let path = std::env::var_os("GANTRY_REFERENCE").map_or_else(
            || {
                PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                    .join("../../../shared/reference/docker-engine-api-v1.55.yaml")
            },
            PathBuf::from,
        );
        let Ok(text) = std::fs::read_to_string(&path) else {
            crate::skip(&format!("no reference document at {}", path.display()));
            return None;
        };
        Some(Self(serde_saphyr::from_str(&text).expect("the reference document is YAML")))
    }

    /// Every endpoint: `GET /containers/json`.
    #[must_use]
    pub fn endpoints(&self) -> BTreeSet<String> {
        let methods = ["get", "head", "post", "put", "delete"];
        let of_path = |(path, item): (&String, &Value)| {
            let path = path.clone();
            let given: Vec<&str> = methods.into_iter().filter(|method| item.get(method).is_some()).collect();
            given
                .into_iter()
                .map(move |method| format!("{} {path}", method.to_ascii_uppercase()))
                .collect::<Vec<_>>()
        };
        self.0["paths"].as_object().into_iter().flatten().flat_map(of_path).collect()
    }

    /// What is wrong with a reply, `null` for one without a body; empty where nothing is.
    #[must_use]
    pub fn check(&self, method: &str, path: &str, status: u16, reply: &Value) -> Vec<String> {
        let response = &self.0["paths"][path][method.to_ascii_lowercase()]["responses"][status.to_string()];
        let mut wrong = Vec::new();
        match (response.get("schema"), response.is_null(), reply.is_null()) {
            (Some(schema), ..) => self.value(schema, reply, "", &mut wrong),
            (None, true, _) => wrong.push(format!("the document has no reply {status} of {method} {path}")),
            (None, false, true) => {}
            (None, false, false) => wrong.push(format!("{reply} where the document has no body")),
        }
        wrong
    }

    /// The same for a type of the document's `definitions`.
    #[must_use]
    pub fn check_type(&self, name: &str, value: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        self.value(&self.0["definitions"][name], value, "", &mut wrong);
        wrong
    }

    fn resolve<'s>(&'s self, schema: &'s Value) -> &'s Value {
        match schema.get("$ref").and_then(Value::as_str) {
            Some(name) => self.resolve(&self.0["definitions"][name.rsplit('/').next().unwrap_or("")]),
            None => schema,
        }
    }

    fn value(&self, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
        let nullable = schema.get("x-nullable").or_else(|| self.resolve(schema).get("x-nullable"));
        let schema = self.resolve(schema);
        let parts = schema.get("allOf").and_then(Value::as_array);
        let kind = match schema.get("type").and_then(Value::as_str) {
            Some(kind) => kind,
            None if parts.is_some_and(|parts| parts.len() == 1) => {
                return self.value(&parts.map_or(Value::Null, |parts| parts[0].clone()), value, at, wrong);
            }
            None if parts.is_some() || schema.get("properties").is_some() => "object",
            None => return,
        };
        if value.is_null() {
            let may = match nullable.and_then(Value::as_bool) {
                Some(said) => said,
                None => matches!(kind, "array" | "object"),
            };
            if !may {
                wrong.push(format!("{at}: null is not a {kind}"));
            }
            return;
        }
        let fits = match kind {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            _ => true,
        };
        if !fits {
            wrong.push(format!("{at}: {value} is not a {kind}"));
            return;
        }
        let values = schema.get("enum").and_then(Value::as_array).filter(|_| !value.is_object());
        if let Some(values) = values.filter(|values| !values.contains(value)) {
            wrong.push(format!("{at}: {value} is none of {values:?}"));
        }
        if let (Some(items), Some(item)) = (value.as_array(), schema.get("items")) {
            items
                .iter()
                .enumerate()
                .for_each(|(index, one)| self.value(item, one, &format!("{at}[{index}]"), wrong));
        }
        if value.is_object() {
            self.object(schema, value, at, wrong);
        }
    }

    fn object(&self, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
        let mut parts = vec![schema];
        let mut next = 0;
        while next < parts.len() {
            let of = parts[next].get("allOf").and_then(Value::as_array);
            parts.extend(of.into_iter().flatten().map(|part| self.resolve(part)));
            next += 1;
        }
        let property = |key: &str| parts.iter().find_map(|part| part.get("properties")?.get(key));
        let others = parts.iter().find_map(|part| part.get("additionalProperties"));
        let described = parts.iter().any(|part| part.get("properties").is_some());
        for (key, inner) in value.as_object().into_iter().flatten() {
            let below = format!("{at}.{key}");
            match (property(key), others) {
                (Some(schema), _) | (None, Some(schema)) => self.value(schema, inner, &below, wrong),
                (None, None) if described => wrong.push(format!("{below}: the document does not know it")),
                (None, None) => {}
            }
        }
        let required = parts.iter().filter_map(|part| part.get("required")?.as_array()).flatten();
        for key in required.filter_map(Value::as_str).filter(|key| value.get(key).is_none()) {
            wrong.push(format!("{at}: {key} is missing"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Reference {
        Reference(json!({
            "paths": {"/a": {"get": {"responses": {"200": {"schema": {"$ref": "#/definitions/A"}}, "204": {"description": "done"}}}}},
            "definitions": {
                "A": {"allOf": [{"$ref": "#/definitions/B"}, {"type": "object", "required": ["n"], "properties": {
                    "n": {"type": "integer"}, "e": {"type": "string", "enum": ["x", "y"]},
                    "l": {"type": "array", "items": {"type": "string"}}, "m": {"type": "string", "x-nullable": true},
                    "o": {"type": "object", "additionalProperties": {"type": "string"}}}}]},
                "B": {"type": "object", "properties": {"b": {"type": "boolean"}}},
            },
        }))
    }

    #[test]
    fn replies_that_fit_are_taken_and_others_named() {
        let check = |value: Value| document().check("GET", "/a", 200, &value);
        for good in
            [json!({"n": 1}), json!({"n": 1, "b": true, "e": "x", "l": null, "m": null, "o": {"k": "v"}})]
        {
            assert_eq!(check(good.clone()), Vec::<String>::new(), "{good}");
        }
        for (bad, says) in [
            (json!({}), ": n is missing"),
            (json!({"n": "1"}), ".n: \"1\" is not a integer"),
            (json!({"n": null}), ".n: null is not a integer"),
            (json!({"n": 1, "b": 0}), ".b: 0 is not a boolean"),
            (json!({"n": 1, "e": "z"}), ".e: \"z\" is none of"),
            (json!({"n": 1, "l": ["a", 2]}), ".l[1]: 2 is not a string"),
            (json!({"n": 1, "o": {"k": 1}}), ".o.k: 1 is not a string"),
            (json!({"n": 1, "q": 1}), ".q: the document does not know it"),
            (json!([]), ": [] is not a object"),
        ] {
            let wrong = check(bad.clone());
            assert!(wrong.len() == 1 && wrong[0].starts_with(says), "{bad}: {wrong:?}");
        }
        assert_eq!(document().check("GET", "/a", 201, &json!({})).len(), 1);
        assert_eq!(document().check("GET", "/a", 204, &Value::Null), Vec::<String>::new());
        assert_eq!(document().check("GET", "/a", 204, &json!({})).len(), 1);
        assert_eq!(document().endpoints(), ["GET /a".to_owned()].into());
    }
}
