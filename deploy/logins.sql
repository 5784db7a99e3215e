-- Gives each role that logs in its password, from the files of a container's secrets. Run by the database's owner after each
-- migration; a changed file is a changed password.
\set ON_ERROR_STOP on
\set dispatcher `cat /run/secrets/dispatcher-password`
\set instance_worker `cat /run/secrets/instance-worker-password`
\set ssh_worker `cat /run/secrets/ssh-worker-password`
\set wallet_worker `cat /run/secrets/wallet-worker-password`
\set operator `cat /run/secrets/operator-password`
\set app `cat /run/secrets/app-password`
-- Should a statement fail or be slow, the server's log is not to show it.
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
SET log_min_duration_statement = -1;
SET password_encryption = 'scram-sha-256';
ALTER ROLE gatewayzen_service PASSWORD :'dispatcher';
ALTER ROLE gatewayzen_instance_worker PASSWORD :'instance_worker';
ALTER ROLE gatewayzen_ssh_worker PASSWORD :'ssh_worker';
ALTER ROLE gatewayzen_wallet_worker PASSWORD :'wallet_worker';
ALTER ROLE gatewayzen_operator PASSWORD :'operator';
ALTER ROLE gatewayzen_app PASSWORD :'app';
