-- PostgreSQL 15.18 (Debian 15.18-0+deb12u1), connected as postgres, autocommit unless BEGIN
CREATE TABLE a (id int PRIMARY KEY, v text);
INSERT INTO a VALUES (1,'x');
-- @start connector
-- @wait
INSERT INTO a VALUES (2,'s');
-- @wait
-- @stop connector
INSERT INTO a VALUES (3,'while down');
UPDATE a SET v='d' WHERE id=1;
-- @start connector (same offsets and slot)
INSERT INTO a VALUES (4,'after');
-- @wait
