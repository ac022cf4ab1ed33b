-- PostgreSQL 15.18 (Debian 15.18-0+deb12u1), connected as postgres, autocommit unless BEGIN
CREATE TABLE parent (id int, region text, v text, PRIMARY KEY (id,region)) PARTITION BY LIST (region);
CREATE TABLE parent_eu PARTITION OF parent FOR VALUES IN ('eu');
CREATE TABLE parent_us PARTITION OF parent FOR VALUES IN ('us');
CREATE PUBLICATION pub_x FOR TABLE parent WITH (publish_via_partition_root = true);
-- @start connector
INSERT INTO parent VALUES (1,'eu','x'),(2,'us','y');
UPDATE parent SET v='z' WHERE id=1;
UPDATE parent SET region='us' WHERE id=1;
DELETE FROM parent WHERE id=2;
INSERT INTO parent_eu VALUES (5,'eu','direct');
TRUNCATE parent;
-- @wait
