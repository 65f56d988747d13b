-- Ends the statement that it is a part of, and undoes it, where what it was decided on is not so any more.
CREATE FUNCTION quota.require(met boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF met IS NOT TRUE THEN
        RAISE EXCEPTION 'the balances have changed meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
END $$;
