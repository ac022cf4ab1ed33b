-- PostgreSQL 15.18 (Debian 15.18-0+deb12u1), connected as postgres, autocommit unless BEGIN
CREATE TABLE d (id int PRIMARY KEY, v text);
CREATE TABLE f (id int PRIMARY KEY, v text);
ALTER TABLE f REPLICA IDENTITY FULL;
-- @start connector
INSERT INTO d VALUES (1,'a');
UPDATE d SET id=2 WHERE id=1;
UPDATE d SET id=3, v='b' WHERE id=2;
INSERT INTO f VALUES (1,'a');
UPDATE f SET id=2 WHERE id=1;
UPDATE f SET id=3, v='b' WHERE id=2;
BEGIN;
INSERT INTO d VALUES (10,'x'),(11,'y');
UPDATE d SET id=id+100 WHERE id IN (10,11);
COMMIT;
-- @wait
