-- PostgreSQL 15.18 (Debian 15.18-0+deb12u1), connected as postgres, autocommit unless BEGIN
CREATE TABLE n_default (a int, v text);
CREATE TABLE n_full (a int, v text);
ALTER TABLE n_full REPLICA IDENTITY FULL;
CREATE TABLE n_uniq (a int NOT NULL UNIQUE, v text);
CREATE TABLE n_index (v text, a int NOT NULL, b int NOT NULL);
CREATE UNIQUE INDEX n_index_ab ON n_index (b,a);
ALTER TABLE n_index REPLICA IDENTITY USING INDEX n_index_ab;
CREATE TABLE n_nothing (a int PRIMARY KEY, v text);
ALTER TABLE n_nothing REPLICA IDENTITY NOTHING;
-- @start connector
INSERT INTO n_default VALUES (1,'x'),(1,'x');
-- @expect_error: UPDATE n_default SET v='y'
INSERT INTO n_full VALUES (1,'x'),(2,NULL);
UPDATE n_full SET v='y' WHERE a=1;
DELETE FROM n_full;
INSERT INTO n_uniq VALUES (1,'x');
INSERT INTO n_index VALUES ('x',1,2);
UPDATE n_index SET v='y';
UPDATE n_index SET a=5;
DELETE FROM n_index;
INSERT INTO n_nothing VALUES (1,'x');
-- @expect_error: UPDATE n_nothing SET v='y'
TRUNCATE n_full;
-- @wait
