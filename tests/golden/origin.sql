-- PostgreSQL 15.18 (Debian 15.18-0+deb12u1), connected as postgres, autocommit unless BEGIN
CREATE TABLE o (id int PRIMARY KEY);
-- @start connector
SELECT pg_replication_origin_create('orig_1');
SELECT pg_replication_origin_session_setup('orig_1');
BEGIN;
SELECT pg_replication_origin_xact_setup('0/ABCDEF','2024-01-01 00:00:00+00');
INSERT INTO o VALUES (1);
COMMIT;
SELECT pg_replication_origin_session_reset();
INSERT INTO o VALUES (2);
SELECT pg_replication_origin_drop('orig_1');
-- @wait
