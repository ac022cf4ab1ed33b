//! Topic names from tables.

use std::collections::HashMap;
use std::sync::Arc;

use rowtide_sdk::{Code, Error, Origin, Table};

use crate::config::TOPIC_LEN_MAX;
use crate::schema::TOPIC_COLLISION;

/// RT5012: a topic name is not legal.
const BAD_TOPIC: Code = Code("RT5012");

/// Names topics and refuses two tables that would share one.
#[derive(Debug)]
pub(crate) struct Topics {
    connector: String,
    template: String,
    owners: HashMap<Arc<str>, (String, String)>,
    /// Topics that are no table's, with what they hold.
    reserved: Vec<(Arc<str>, &'static str)>,
}

/// Whether Kafka takes the name.
fn is_legal(name: &str) -> bool {
    !name.is_empty() && name.len() <= TOPIC_LEN_MAX && name != "." && name != ".."
}

/// Replaces what a topic name may not hold.
fn sanitize(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' })
        .collect()
}

/// What tells two tables, each by schema and name, apart that have one topic.
fn apart(template: &str, one: &(String, String), other: &(String, String)) -> String {
    let differs = [(&one.0, &other.0, "{schema}"), (&one.1, &other.1, "{table}")];
    let lacking = differs
        .iter()
        .find(|(one, other, place)| sanitize(one) != sanitize(other) && !template.contains(place));
    let or_out = "or leave one of them out by `source.tables.exclude`";
    if let Some((.., place)) = lacking {
        return format!(
            "put {place} into the sink's `topic`, as in {{name}}.{{schema}}.{{table}}, {or_out}"
        );
    }
    if differs.iter().all(|(one, other, _)| sanitize(one) == sanitize(other)) {
        return "no `topic` tells them apart, as they differ in characters that a topic cannot hold: \
                leave one of them out by `source.tables.exclude`, or rename it"
            .to_owned();
    }
    format!(
        "put something between {{schema}} and {{table}} in the sink's `topic` that is in neither name, as \
         in {{name}}.{{schema}}--{{table}}, {or_out}"
    )
}

impl Topics {
    pub(crate) fn new(connector: &str, template: &str) -> Self {
        let mut topics = Self {
            connector: connector.to_owned(),
            template: template.to_owned(),
            owners: HashMap::new(),
            reserved: Vec::new(),
        };
        topics.reserved.push((topics.dead_letters(), "the dead letters"));
        topics
    }

    /// The topic of the connector's dead letters.
    pub(crate) fn dead_letters(&self) -> Arc<str> {
        sanitize(&format!("{}.dead_letter", self.connector)).into()
    }

    /// Takes a topic for `what`, which is of no table; `{name}` in the template is the connector.
    ///
    /// # Errors
    /// Fatal where it is another's already, or too long or no name at all.
    pub(crate) fn reserve(
        &mut self,
        template: &str,
        what: &'static str,
    ) -> Result<Arc<str>, Error> {
        let name: Arc<str> = sanitize(&template.replace("{name}", &self.connector)).into();
        if !is_legal(&name) {
            let message = format!("{what} have the topic name `{name}`, which is not legal");
            return Err(Error::fatal(Origin::Config, BAD_TOPIC, message)
                .with_remedy("choose another topic; a name has 1 to 249 characters"));
        }
        if let Some((_, other)) = self.reserved.iter().find(|(taken, _)| *taken == name) {
            let message = format!("{what} and {other} both have the topic {name}");
            return Err(Error::fatal(Origin::Config, TOPIC_COLLISION, message).with_remedy(
                "give one of them another topic: `messages.topic`, `schema_changes.topic`",
            ));
        }
        self.reserved.push((Arc::clone(&name), what));
        Ok(name)
    }

    /// The topic of a table.
    ///
    /// # Errors
    /// Fatal where another table has it already, or where it is too long or no name at all.
    pub(crate) fn topic(&mut self, table: &Table) -> Result<Arc<str>, Error> {
        // One pass, so that a table named `{schema}` is not expanded again.
        let mut name = String::new();
        let mut rest = self.template.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            name.push_str(before);
            let (placeholder, after) = after.split_once('}').unwrap_or((after, ""));
            name.push_str(match placeholder {
                "name" => &self.connector,
                "db" => &table.db,
                "schema" => &table.schema,
                "table" => &table.name,
                _ => "",
            });
            rest = after;
        }
        name.push_str(rest);
        let name: Arc<str> = sanitize(&name).into();
        if !is_legal(&name) {
            return Err(Error::fatal(
                Origin::Config,
                BAD_TOPIC,
                format!(
                    "table {}.{} gives the topic name `{name}`, which is not legal",
                    table.schema, table.name
                ),
            )
            .with_remedy("choose another `topic` template; a name has 1 to 249 characters"));
        }
        let owner = (table.schema.clone(), table.name.clone());
        match self.owners.get(&name) {
            Some(known) if *known != owner => Err(Error::fatal(
                Origin::Config,
                TOPIC_COLLISION,
                format!(
                    "tables {}.{} and {}.{} both map to topic {name}",
                    known.0, known.1, owner.0, owner.1
                ),
            )
            .with_remedy(apart(&self.template, known, &owner))),
            Some(_) => Ok(name),
            None => {
                if let Some((_, what)) = self.reserved.iter().find(|(taken, _)| *taken == name) {
                    let (schema, table) = owner;
                    let message = format!("table {schema}.{table} maps to the topic of {what}");
                    return Err(Error::fatal(Origin::Config, TOPIC_COLLISION, message)
                        .with_remedy(
                            "choose a `topic` template of the sink that gives it another name, or leave \
                             it out by `source.tables.exclude`",
                        ));
                }
                self.owners.insert(Arc::clone(&name), owner);
                Ok(name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::testing::table;

    #[test]
    fn names_follow_the_template_and_lose_illegal_characters() {
        let mut topics = Topics::new("shop", "{name}.{schema}.{table}");
        assert_eq!(&*topics.topic(&table("My Täble$", vec![])).unwrap(), "shop.public.My_T_ble_");
        assert_eq!(&*topics.topic(&table("{schema}", vec![])).unwrap(), "shop.public._schema_");
    }

    #[test]
    fn h47_two_tables_never_share_a_topic() {
        let mut topics = Topics::new("shop", "{name}.{table}");
        topics.topic(&table("a b", vec![])).unwrap();
        topics.topic(&table("a b", vec![])).unwrap();
        let error = topics.topic(&table("a$b", vec![])).unwrap_err();
        assert_eq!(error.code(), TOPIC_COLLISION);
        assert!(topics.topic(&table("dead_letter", vec![])).is_err());
    }

    #[test]
    fn what_tells_two_tables_apart_is_told() {
        let advice = |template: &str, one: (&str, &str), other: (&str, &str)| {
            let mut topics = Topics::new("shop", template);
            let of = |(schema, name): (&str, &str)| {
                let mut table = table(name, vec![]);
                table.schema = schema.to_owned();
                table
            };
            topics.topic(&of(one)).unwrap();
            topics.topic(&of(other)).unwrap_err().remedy().unwrap().to_owned()
        };
        let whole = "{name}.{schema}.{table}";
        assert!(advice("{name}.{table}", ("a", "t"), ("b", "t")).contains("put {schema} into"));
        assert!(advice("{name}.{schema}", ("a", "t"), ("a", "u")).contains("put {table} into"));
        assert!(advice(whole, ("a", "t$"), ("a", "t?")).contains("no `topic` tells them apart"));
        assert!(advice("{name}.{table}", ("a", "t$"), ("a", "t?")).contains("no `topic`"));
        assert!(advice(whole, ("a.b", "c"), ("a", "b.c")).contains("{schema}--{table}"));
    }

    #[test]
    fn a_topic_that_is_no_tables_is_not_shared() {
        let mut topics = Topics::new("shop", "{name}.{table}");
        assert_eq!(&*topics.reserve("{name}.messages", "messages").unwrap(), "shop.messages");
        assert_eq!(topics.reserve("shop.messages", "more").unwrap_err().code(), TOPIC_COLLISION);
        assert_eq!(topics.reserve("..", "more").unwrap_err().code(), BAD_TOPIC);
        let taken = topics.topic(&table("messages", vec![])).unwrap_err();
        assert!(taken.message().contains("the topic of messages"), "{taken}");
    }

    #[test]
    fn a_name_that_is_too_long_is_refused() {
        let mut topics = Topics::new("shop", "{table}");
        assert_eq!(topics.topic(&table(&"x".repeat(250), vec![])).unwrap_err().code(), BAD_TOPIC);
    }
}
