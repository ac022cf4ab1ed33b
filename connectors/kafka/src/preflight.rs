//! What `rowtide check` says about the Kafka side. Connects and reads; creates nothing.

use std::time::Duration;

use rowtide_sdk::{Finding, Severity, TopicInfo, TopicSpec};

use crate::config::{KafkaConfig, KafkaLimits};
use crate::error::{Failure, codes};
use crate::producer::{Partitions, Producer};
use crate::topics::{self, Admin, Found, TopicSettings};

/// How long a broker may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a topic's partitions may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Checks connection, rights and topics. Empty where all is well.
pub async fn check(
    config: &KafkaConfig,
    limits: KafkaLimits,
    topics: &[TopicSpec],
) -> Vec<Finding> {
    let problems = config.problems();
    if !problems.is_empty() {
        return problems
            .into_iter()
            .map(|problem| {
                Finding::new(Severity::Error, codes::SETTING, problem.message)
                    .at(format!("setting {}", problem.path))
            })
            .collect();
    }
    let mut findings = Vec::new();
    let started = config.check_files().and_then(|()| Producer::start(config, limits));
    match started {
        Ok(producer) => {
            if let Err(failure) = look(config, topics, &producer, &mut findings).await {
                findings.push(finding(&failure));
            }
            // Nothing was sent, so that closing has nothing to report.
            producer.end().await;
        }
        Err(failure) => findings.push(finding(&failure)),
    }
    findings
}

fn finding(failure: &Failure) -> Finding {
    Finding::from(&failure.to_error())
}

async fn look(
    config: &KafkaConfig,
    specs: &[TopicSpec],
    producer: &Producer,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    producer.connect(&config.brokers, CONNECT_TIMEOUT).await?;
    let admin = Admin::start(config).await?;
    for spec in specs {
        if let Err(failure) = look_at_topic(config, spec, &admin, producer, findings).await {
            findings.push(finding(&failure).at(place(&spec.name)));
        }
    }
    admin.stop();
    Ok(())
}

async fn look_at_topic(
    config: &KafkaConfig,
    spec: &TopicSpec,
    admin: &Admin,
    producer: &Producer,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let topic = &spec.name;
    let partitions = producer.partitions(topic, REQUEST_TIMEOUT).await?;
    if partitions == Partitions::Missing {
        if !config.topics.create {
            return Err(topics::missing(config, spec));
        }
        let message = format!("topic {topic} does not exist and will be created");
        findings.push(Finding::new(Severity::Info, codes::TOPIC_MISSING, message).at(place(topic)));
        let policy = config.topics.config.get(topics::POLICY);
        let compacts = policy.is_some_and(|policy| policy.as_str().contains(topics::COMPACT));
        findings.extend(keyless(spec, compacts));
        return topics::verify_stated_size(config, spec);
    }
    match admin.find(topic).await? {
        Found::Settings(settings) => {
            findings.extend(keyless(spec, settings.compacts));
            weaknesses(topic, &settings, findings);
            findings.extend(forgets(spec, &settings));
            topics::verify_size(config, spec, &settings)?;
        }
        Found::Untold(why) => {
            let message = format!("the settings of topic {topic} cannot be read: {why}");
            let finding = Finding::new(Severity::Warning, codes::TOPIC_WEAK, message);
            findings.push(finding.at(place(topic)).with_remedy(format!(
                "kafka-acls.sh --bootstrap-server … --add --allow-principal User:… --operation \
                 DescribeConfigs --topic {topic}"
            )));
        }
    }
    if let (Some(stated), Partitions::Ready(count)) = (config.topics.partitions, partitions)
        && !spec.keeps_newest
        && i64::from(stated) != i64::from(count)
    {
        let message = format!(
            "topic {topic} has {count} partitions, topics.partitions says {stated}: an existing \
             topic is left as it is"
        );
        let finding = Finding::new(Severity::Info, codes::PARTITIONS_CHANGED, message);
        findings.push(finding.at(place(topic)));
    }
    Ok(())
}

fn place(topic: &str) -> String {
    format!("topic {topic}")
}

/// Records without keys on a topic that compacts.
fn keyless(spec: &TopicSpec, compacts: bool) -> Option<Finding> {
    let refused = spec.check(TopicInfo { compacts }).err()?;
    Some(Finding::from(&refused).at(place(&spec.name)))
}

/// A topic that is read from its start, and does not keep its records.
fn forgets(spec: &TopicSpec, settings: &TopicSettings) -> Option<Finding> {
    let topic = &spec.name;
    (spec.keeps_newest && settings.deletes).then(|| {
        let message = format!("topic {topic} deletes old records, but it is read from its start");
        let finding = Finding::new(Severity::Warning, codes::TOPIC_WEAK, message);
        finding.at(place(topic)).with_remedy(format!(
            "kafka-configs.sh --bootstrap-server … --alter --entity-type topics --entity-name \
             {topic} --add-config cleanup.policy=compact"
        ))
    })
}

/// Settings that let acknowledged records disappear.
fn weaknesses(topic: &str, settings: &TopicSettings, findings: &mut Vec<Finding>) {
    if settings.unclean_election {
        let message = format!(
            "topic {topic} allows unclean leader election: acknowledged records can be lost"
        );
        let finding = Finding::new(Severity::Warning, codes::TOPIC_WEAK, message);
        findings.push(finding.at(place(topic)).with_remedy(format!(
            "kafka-configs.sh --bootstrap-server … --alter --entity-type topics --entity-name \
             {topic} --add-config unclean.leader.election.enable=false"
        )));
    }
    if settings.min_insync_replicas == Some(1) {
        let message = format!(
            "topic {topic} has min.insync.replicas=1: a record may be acknowledged by one broker \
             alone"
        );
        findings.push(Finding::new(Severity::Info, codes::TOPIC_WEAK, message).at(place(topic)));
    }
}
