import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.utils.Exit;

/**
 * Apache Kafka's command-line tools, one after the other in one JVM: starting a JVM for each would take longer than
 * what they do. Each tool's own main runs unchanged, with its own standard streams.
 *
 * A command is one line of JSON on standard input: {"main", "arguments", "input"}. Its answer is one line on standard
 * output: {"status", "out", "err"}. A tool that asks for the end of the process only ends itself,
 * and what it wants done at the end is done then.
 */
public final class Toolbox {
    private static final class Ended extends Error {
        final int status;

        Ended(int status) {
            super("exit " + status, null, false, false);
            this.status = status;
        }
    }

    private static final List<Runnable> hooks = new ArrayList<>();
    private static Ended ended;

    private static void end(int status, String message) {
        if (ended == null) { // some tools catch what ends them, and then end with another status
            ended = new Ended(status);
        }
        throw ended;
    }

    public static void main(String[] none) throws Exception {
        Exit.setExitProcedure(Toolbox::end);
        Exit.setHaltProcedure(Toolbox::end);
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        ObjectMapper json = new ObjectMapper();
        InputStream commands = System.in;
        PrintStream answers = System.out;
        // the same streams for all: Scala keeps the first that it sees
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
        BufferedReader lines = new BufferedReader(new InputStreamReader(commands, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            JsonNode command = json.readTree(line);
            System.setIn(new ByteArrayInputStream(command.get("input").asText().getBytes(StandardCharsets.UTF_8)));
            int status = run(command.get("main").asText(), json.treeToValue(command.get("arguments"), String[].class));
            System.out.flush();
            System.err.flush();
            answers.println(json.writeValueAsString(Map.of(
                "status", status,
                "out", out.toString(StandardCharsets.UTF_8),
                "err", err.toString(StandardCharsets.UTF_8))));
            answers.flush();
            out.reset();
            err.reset();
        }
    }

    private static int run(String main, String[] arguments) throws ReflectiveOperationException {
        ended = null;
        hooks.clear();
        int status = 0;
        try {
            Class.forName(main).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException thrown) {
            if (thrown.getCause() != ended) {
                thrown.getCause().printStackTrace();
            }
            status = 1;
        }
        hooks.forEach(Runnable::run);
        return ended != null ? ended.status : status;
    }
}
