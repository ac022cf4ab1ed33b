-- PostgreSQL 15.18 (Debian 15.18-0+deb12u1), connected as postgres, autocommit unless BEGIN
CREATE TABLE ri (id int PRIMARY KEY, code text NOT NULL, v text);
CREATE UNIQUE INDEX ri_code ON ri(code);
ALTER TABLE ri REPLICA IDENTITY USING INDEX ri_code;
-- @start connector
INSERT INTO ri VALUES (1,'A','x'),(2,'B','y');
UPDATE ri SET v='x2' WHERE id=1;
UPDATE ri SET code='A2' WHERE id=1;
UPDATE ri SET id=9 WHERE id=1;
DELETE FROM ri WHERE id=2;
-- @wait
