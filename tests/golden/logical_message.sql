-- PostgreSQL 15.18 (Debian 15.18-0+deb12u1), connected as postgres, autocommit unless BEGIN
CREATE TABLE m (id int PRIMARY KEY);
-- @start connector
SELECT pg_logical_emit_message(true,'pfx','text content');
SELECT pg_logical_emit_message(false,'pfx2','non tx é');
BEGIN;
INSERT INTO m VALUES (1);
SELECT pg_logical_emit_message(true,'in-tx','\x00ff01'::bytea);
SELECT pg_logical_emit_message(false,'nontx-in-tx','y');
INSERT INTO m VALUES (2);
COMMIT;
SELECT pg_logical_emit_message(true,'','');
BEGIN;
SELECT pg_logical_emit_message(true,'rolled','back');
SELECT pg_logical_emit_message(false,'rolled-nontx','stays');
ROLLBACK;
-- @wait
