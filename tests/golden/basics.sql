-- PostgreSQL 15.18 (Debian 15.18-0+deb12u1), connected as postgres, autocommit unless BEGIN
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, email varchar(40), qty int, price numeric(10,2), active boolean DEFAULT true, created timestamptz);
-- @start connector
INSERT INTO customers VALUES (1,'Anne','a@x.io',10,19.99,true,'2024-02-29 12:34:56.789012+00');
INSERT INTO customers (id,name) VALUES (2,'Bob'),(3,'Carl');
UPDATE customers SET qty=11, price=20.00 WHERE id=1;
UPDATE customers SET email=NULL WHERE id=1;
UPDATE customers SET name=name WHERE id=2;
BEGIN;
INSERT INTO customers VALUES (4,'Dora',NULL,0,-0.01,false,NULL);
UPDATE customers SET name='Dora 2' WHERE id=4;
DELETE FROM customers WHERE id=3;
COMMIT;
BEGIN;
INSERT INTO customers (id,name) VALUES (99,'rolled back');
ROLLBACK;
DELETE FROM customers WHERE id IN (1,2);
-- @wait
