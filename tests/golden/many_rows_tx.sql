-- PostgreSQL 15.18 (Debian 15.18-0+deb12u1), connected as postgres, autocommit unless BEGIN
CREATE TABLE a (id int PRIMARY KEY, v text);
-- @start connector
BEGIN;
INSERT INTO a SELECT g,'v'||g FROM generate_series(1,50) g;
UPDATE a SET v=v||'u' WHERE id%10=0;
DELETE FROM a WHERE id<=5;
COMMIT;
COPY a FROM PROGRAM 'printf "1001\tcopied\n1002\t\\\\N\n"';
INSERT INTO a VALUES (1001,'up') ON CONFLICT (id) DO UPDATE SET v=excluded.v;
-- @wait
